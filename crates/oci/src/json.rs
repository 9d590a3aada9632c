//! JSON that nobody vouches for: a document of a few megabytes may ask for many times its size in memory, two bytes of it
//! for a structure of a hundred.

use json::Deserialize;

/// Most values of a document: each costs some hundred bytes at most. Large images have some hundred.
const VALUES: usize = 65_536;

/// Reads a document whose values are counted before any is made.
pub fn parse<T: Deserialize>(bytes: &[u8]) -> json::Result<T> {
    match values(bytes) > VALUES {
        true => Err(json::Error::custom(format!("more than {VALUES} values"))),
        false => json::from_slice(bytes),
    }
}

/// Values of a document, or somewhat more.
fn values(bytes: &[u8]) -> usize {
    let (mut count, mut quoted, mut escaped) = (1, false, false);
    for byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b',' | b'{' | b'[' if !quoted => count += 1,
            _ => {}
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_strings_does_not_count() {
        assert_eq!(values(br#"{"a":"[,{\",[\\","b":[1,2]}"#), 5);
        let text = format!("\"{}\"", ",".repeat(VALUES * 2));
        assert_eq!(parse::<String>(text.as_bytes()).unwrap().len(), VALUES * 2);
        let list = format!("[{}0]", "0,".repeat(VALUES));
        assert!(
            parse::<Vec<u8>>(list.as_bytes())
                .unwrap_err()
                .to_string()
                .contains("65536 values")
        );
    }
}
