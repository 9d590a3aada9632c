//! DNS messages, as much of them as the resolver reads and writes. Pure. Source: RFC 1035.

use std::net::Ipv4Addr;

pub const A: u16 = 1;
pub const PTR: u16 = 12;
const IN: u16 = 1;
/// Seconds that an answer may be kept; Docker's.
const TTL: u32 = 600;
const HEADER: usize = 12;
/// Longest name, bytes on the wire.
const LONGEST: usize = 255;

/// A query's one question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// In lower case, without the dot at the end.
    pub name: String,
    pub kind: u16,
    /// Where the question ends in the message.
    end: usize,
}

/// What a response says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    Fine = 0,
    ServerFailure = 2,
}

/// Reads the question of a query. Anything else (a response, several questions, another class, a name with a pointer in
/// it) is none that the resolver answers itself.
pub fn question(message: &[u8]) -> Option<Question> {
    let number = |at: usize| Some(u16::from_be_bytes([*message.get(at)?, *message.get(at + 1)?]));
    let (flags, questions) = (number(2)?, number(4)?);
    let (is_response, operation) = (flags >> 15, (flags >> 11) & 15);
    if is_response != 0 || operation != 0 || questions != 1 {
        return None;
    }
    let mut name = String::new();
    let mut at = HEADER;
    loop {
        let length = usize::from(*message.get(at)?);
        if length == 0 {
            break;
        }
        if length > 63 || at - HEADER + length > LONGEST {
            return None;
        }
        let label = message.get(at + 1..at + 1 + length)?;
        if !name.is_empty() {
            name.push('.');
        }
        name.push_str(std::str::from_utf8(label).ok()?);
        at += 1 + length;
    }
    let (kind, class) = (number(at + 1)?, number(at + 3)?);
    (class == IN).then(|| Question {
        name: name.to_ascii_lowercase(),
        kind,
        end: at + 5,
    })
}

/// The IPv4 address that a name of the reverse tree asks for: `2.0.18.172.in-addr.arpa`.
pub fn reversed(name: &str) -> Option<Ipv4Addr> {
    let digits: Vec<u8> = name
        .strip_suffix(".in-addr.arpa")?
        .split('.')
        .map(|part| part.parse().ok())
        .collect::<Option<_>>()?;
    let [d, c, b, a] = digits[..] else { return None };
    Some(Ipv4Addr::new(a, b, c, d))
}

/// A response to a query with these addresses; none is an answer too: the name is there, the type is not.
pub fn addresses(query: &[u8], question: &Question, addresses: &[Ipv4Addr]) -> Vec<u8> {
    let mut response = head(query, question, Code::Fine, addresses.len());
    for address in addresses {
        record(&mut response, A, &address.octets());
    }
    response
}

/// A response that names an address.
pub fn pointer(query: &[u8], question: &Question, name: &str) -> Vec<u8> {
    let mut data = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty() && label.len() < 64) {
        data.push(u8::try_from(label.len()).unwrap_or(0));
        data.extend_from_slice(label.as_bytes());
    }
    data.push(0);
    let mut response = head(query, question, Code::Fine, 1);
    record(&mut response, PTR, &data);
    response
}

/// A response that says why there is none.
pub fn failure(query: &[u8], question: &Question, code: Code) -> Vec<u8> {
    head(query, question, code, 0)
}

fn head(query: &[u8], question: &Question, code: Code, answers: usize) -> Vec<u8> {
    let mut response = Vec::with_capacity(512);
    response.extend_from_slice(&query[..2]);
    // A response; recursion as it was desired, and available.
    response.push(0x80 | (query[2] & 0x01));
    response.push(0x80 | code as u8);
    response.extend_from_slice(&1u16.to_be_bytes());
    response.extend_from_slice(&u16::try_from(answers).unwrap_or(u16::MAX).to_be_bytes());
    response.extend_from_slice(&[0; 4]);
    response.extend_from_slice(&query[HEADER..question.end]);
    response
}

/// One answer; its name is that of the question, by a pointer to it.
fn record(response: &mut Vec<u8>, kind: u16, data: &[u8]) {
    response.extend_from_slice(&[0xc0, u8::try_from(HEADER).unwrap_or(0)]);
    response.extend_from_slice(&kind.to_be_bytes());
    response.extend_from_slice(&IN.to_be_bytes());
    response.extend_from_slice(&TTL.to_be_bytes());
    response.extend_from_slice(&u16::try_from(data.len()).unwrap_or(0).to_be_bytes());
    response.extend_from_slice(data);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(name: &str, kind: u16) -> Vec<u8> {
        let mut message = vec![0xab, 0xcd, 0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            message.push(u8::try_from(label.len()).unwrap());
            message.extend_from_slice(label.as_bytes());
        }
        message.push(0);
        message.extend_from_slice(&kind.to_be_bytes());
        message.extend_from_slice(&[0, 1]);
        message
    }

    #[test]
    fn questions_and_answers() {
        let message = query("Web.N1", A);
        let asked = question(&message).unwrap();
        assert_eq!((asked.name.as_str(), asked.kind), ("web.n1", A));
        let answer = addresses(&message, &asked, &[Ipv4Addr::new(172, 18, 0, 2)]);
        assert_eq!(&answer[..8], [0xab, 0xcd, 0x81, 0x80, 0, 1, 0, 1]);
        assert_eq!(&answer[12..message.len()], &message[12..]);
        assert_eq!(
            &answer[message.len()..],
            [0xc0, 12, 0, 1, 0, 1, 0, 0, 2, 88, 0, 4, 172, 18, 0, 2]
        );
        assert_eq!(failure(&message, &asked, Code::ServerFailure)[3], 0x82);
        let named = pointer(&message, &asked, "web.n1");
        assert!(named.ends_with(&[0, 8, 3, b'w', b'e', b'b', 2, b'n', b'1', 0]));
    }

    #[test]
    fn what_is_no_question() {
        let good = query("web", A);
        for cut in 0..good.len() {
            assert_eq!(question(&good[..cut]), None, "{cut} bytes");
        }
        let mut response = good.clone();
        response[2] |= 0x80;
        assert_eq!(question(&response), None);
        let mut two = good.clone();
        two[5] = 2;
        assert_eq!(question(&two), None);
        let mut pointer = good.clone();
        pointer[12] = 0xc0;
        assert_eq!(question(&pointer), None);
        let long = query(&["a"; 200].join("."), A);
        assert_eq!(question(&long), None);
    }

    #[test]
    fn reverse_names() {
        assert_eq!(reversed("2.0.18.172.in-addr.arpa"), Some(Ipv4Addr::new(172, 18, 0, 2)));
        for bad in [
            "0.18.172.in-addr.arpa",
            "2.0.18.172",
            "x.0.18.172.in-addr.arpa",
            "300.0.0.1.in-addr.arpa",
        ] {
            assert_eq!(reversed(bad), None, "{bad}");
        }
    }
}
