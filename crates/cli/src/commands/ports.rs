//! `-p` and `--expose`: which ports of the host lead to which of the container.

use api::network::{PortBinding, PortBindings};
use std::net::IpAddr;

/// Reads a range, `80` or `80-90`; the first may not lie behind the last.
pub fn range(text: &str) -> Option<(u16, u16)> {
    let number = |text: &str| text.bytes().all(|c| c.is_ascii_digit()).then(|| text.parse().ok())?;
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (number(first)?, number(last)?);
    (first <= last).then_some((first, last))
}

/// Adds what one `-p` asks for: `[[ip:]host:]container[/protocol]`, with ranges, or `target=80,published=8080`.
pub fn publish(text: &str, bindings: &mut PortBindings) -> Result<(), String> {
    let short;
    let text = if text.contains('=') {
        short = from_pairs(text)?;
        short.as_str()
    } else {
        text
    };
    let (rest, container) = text.rsplit_once(':').unwrap_or(("", text));
    let (ip, host) = rest.rsplit_once(':').unwrap_or(("", rest));
    let (container, protocol) = container.split_once('/').unwrap_or((container, "tcp"));
    let bare = match ip.strip_prefix('[').and_then(|ip| ip.strip_suffix(']')) {
        Some(ip) => ip,
        None if ip.contains(':') => {
            return Err(format!(
                "invalid IP address {ip}: address {ip}:: too many colons in address"
            ));
        }
        None => ip,
    };
    if !bare.is_empty() && bare.parse::<IpAddr>().is_err() {
        return Err(format!("invalid IP address: {bare}"));
    }
    if container.is_empty() {
        return Err(format!("no port specified: {text}<empty>"));
    }
    let (first, last) = range(container).ok_or_else(|| format!("invalid containerPort: {container}"))?;
    let host_range = match host {
        "" => None,
        host => Some(range(host).ok_or_else(|| format!("invalid hostPort: {host}"))?),
    };
    if let Some((low, high)) = host_range
        && high - low != last - first
        && first != last
    {
        return Err(format!(
            "invalid ranges specified for container and host Ports: {container} and {host}"
        ));
    }
    let protocol = protocol.to_lowercase();
    let protocol = if protocol.is_empty() {
        "tcp".to_string()
    } else {
        protocol
    };
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(format!("invalid proto: {protocol}"));
    }
    for port in first..=last {
        let host_port = match host_range {
            None => String::new(),
            // One port of the container and a range of the host: the daemon takes the first that is free.
            Some((low, high)) if first == last && low != high => format!("{low}-{high}"),
            Some((low, _)) => (low + (port - first)).to_string(),
        };
        let binding = PortBinding {
            host_ip: bare.to_string(),
            host_port,
        };
        bindings
            .entry(format!("{port}/{protocol}"))
            .or_default()
            .get_or_insert_default()
            .push(binding);
    }
    Ok(())
}

fn from_pairs(text: &str) -> Result<String, String> {
    let (mut target, mut published, mut protocol) = ("", "", "tcp");
    for pair in text.split(',') {
        let (key, value) = pair.split_once('=').ok_or_else(|| format!("invalid field: {pair}"))?;
        match key.trim().to_lowercase().as_str() {
            "target" => target = value,
            "published" => published = value,
            "protocol" => protocol = value,
            "mode" if matches!(value, "host" | "ingress") => {}
            "mode" => {
                return Err(format!(
                    "invalid publish mode value ({value}): must be either 'ingress' or 'host'"
                ));
            }
            _ => {
                return Err(format!(
                    "invalid publish opts format (should be name=value but got '{pair}')"
                ));
            }
        }
    }
    Ok(format!("{published}:{target}/{protocol}"))
}

/// The ports that one `--expose` names.
pub fn expose(text: &str) -> Result<Vec<String>, String> {
    if text.contains(':') {
        return Err(format!("invalid port format for --expose: {text}"));
    }
    let (port, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let (first, last) = range(port).ok_or_else(|| {
        let why = if port.is_empty() {
            "empty string specified for ports".into()
        } else {
            format!("strconv.ParseUint: parsing {}: invalid syntax", api::quote::quote(port))
        };
        format!("invalid range format for --expose: {text}, error: {why}")
    })?;
    Ok((first..=last)
        .map(|port| format!("{port}/{}", protocol.to_lowercase()))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(text: &str) -> Result<String, String> {
        let mut bindings = PortBindings::new();
        publish(text, &mut bindings)?;
        let all = bindings.iter().flat_map(|(port, list)| {
            list.iter()
                .flatten()
                .map(move |b| format!("{port}<{}|{}", b.host_ip, b.host_port))
        });
        Ok(all.collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn forms() {
        for (text, want) in [
            ("80", Ok("80/tcp<|")),
            ("8080:80", Ok("80/tcp<|8080")),
            ("127.0.0.1:8080:80/udp", Ok("80/udp<127.0.0.1|8080")),
            ("127.0.0.1::80", Ok("80/tcp<127.0.0.1|")),
            ("[::1]:8080:80", Ok("80/tcp<::1|8080")),
            ("8000-8001:80-81", Ok("80/tcp<|8000 81/tcp<|8001")),
            ("8000-8005:80", Ok("80/tcp<|8000-8005")),
            ("target=80,published=8080,protocol=udp", Ok("80/udp<|8080")),
            ("99999:1", Err("invalid hostPort: 99999")),
            ("1:x", Err("invalid containerPort: x")),
            (
                "1-3:1-2",
                Err("invalid ranges specified for container and host Ports: 1-2 and 1-3"),
            ),
            ("80/foo", Err("invalid proto: foo")),
            ("a:80:80", Err("invalid IP address: a")),
            ("80:", Err("no port specified: 80:<empty>")),
        ] {
            assert_eq!(show(text), want.map(str::to_string).map_err(str::to_string), "{text}");
        }
        assert_eq!(expose("80-81/UDP").unwrap(), ["80/udp", "81/udp"]);
    }
}
