//! Hardware addresses: Docker's scheme `02:42` + the IPv4 address, so that an address keeps its MAC.

use std::net::Ipv4Addr;

/// The MAC that goes with an address: `172.17.0.2` has `02:42:ac:11:00:02`.
pub fn of(address: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = address.octets();
    [2, 0x42, a, b, c, d]
}

/// `02:42:ac:11:00:02`
pub fn text(mac: [u8; 6]) -> String {
    let [a, b, c, d, e, f] = mac;
    format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
}

/// Parses six pairs of hex digits with `:` or `-` between.
pub fn parse(text: &str) -> Option<[u8; 6]> {
    let mut mac = [0; 6];
    let mut parts = text.split([':', '-']);
    for byte in &mut mac {
        let part = parts.next().filter(|part| part.len() == 2 && !part.starts_with('+'))?;
        *byte = u8::from_str_radix(part, 16).ok()?;
    }
    parts.next().is_none().then_some(mac)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips() {
        let mac = of(Ipv4Addr::new(172, 17, 0, 2));
        assert_eq!(text(mac), "02:42:ac:11:00:02");
        assert_eq!(parse("02:42:AC:11:00:02"), Some(mac));
        for bad in [
            "",
            "02:42",
            "02:42:ac:11:00:02:03",
            "02:42:ac:11:00:+2",
            "0242:ac:11:00:02",
        ] {
            assert_eq!(parse(bad), None);
        }
    }
}
