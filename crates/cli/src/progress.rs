//! Shows the JSON lines of a pull: lines that are drawn over on a terminal, plain ones elsewhere.

use crate::command::Failure;
use crate::terminal;
use api::progress::{Message, bar, human};
use std::io::{self, BufRead, BufReader, Read, Write};

/// The width of a terminal from which on bars are drawn, docker's.
const WIDE: u32 = 110;

/// Where lines are shown.
#[derive(Clone, Copy)]
pub enum Shown {
    Output,
    /// Output is for something else.
    Error,
    Nowhere,
}

/// Reads lines until the end and shows them; an error line ends it with its text.
pub fn show(body: impl Read, shown: Shown) -> Result<(), Failure> {
    match shown {
        Shown::Output => lines(body, &mut io::stdout(), terminal::is_output()),
        Shown::Error => lines(body, &mut io::stderr(), terminal::is_error()),
        Shown::Nowhere => lines(body, &mut io::sink(), false),
    }
}

fn lines(body: impl Read, out: &mut dyn Write, draw: bool) -> Result<(), Failure> {
    let mut shown: Vec<String> = Vec::new();
    let width = terminal::size().map_or(200, |size| size[1]);
    let mut lines = BufReader::new(body);
    loop {
        let mut line = Vec::new();
        // A line is a status; what is longer than that is not worth memory.
        if lines.by_ref().take(1024 * 1024).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let message: Message =
            json::from_slice(&line).map_err(|e| Failure::new(format!("read the daemon's progress: {e}")))?;
        if let Some(detail) = &message.error_detail {
            return Err(match detail.code {
                401 => Failure::new("authentication is required"),
                _ => Failure::new(detail.message.clone()),
            });
        }
        if !message.error.is_empty() {
            return Err(Failure::new(message.error));
        }
        if message.aux.is_some() {
            continue;
        }
        let moving = message.progress_detail.is_some() || !message.progress.is_empty();
        let mut up = 0;
        if !message.id.is_empty() && moving {
            let at = match shown.iter().position(|id| *id == message.id) {
                Some(at) => at,
                None => {
                    shown.push(message.id.clone());
                    if draw {
                        out.write_all(b"\n")?;
                    }
                    shown.len() - 1
                }
            };
            up = shown.len() - at;
            if draw {
                write!(out, "\x1b[{up}A")?;
            }
        } else {
            shown.clear();
        }
        display(&message, out, draw, width)?;
        if up > 0 && draw {
            write!(out, "\x1b[{up}B")?;
        }
        out.flush()?;
    }
}

fn display(message: &Message, out: &mut dyn Write, draw: bool, width: u32) -> std::io::Result<()> {
    let detail = message.progress_detail.as_ref();
    let progress = detail.map(|detail| text(detail, width)).unwrap_or_default();
    let mut end = "";
    if draw && message.stream.is_empty() && detail.is_some() {
        write!(out, "\x1b[2K\r")?;
        end = "\r";
    } else if !progress.is_empty() {
        // Bars only make sense where they can be drawn over.
        return Ok(());
    }
    if !message.id.is_empty() {
        write!(out, "{}: ", message.id)?;
    }
    if draw && detail.is_some() {
        write!(out, "{} {progress}{end}", message.status)
    } else if !message.progress.is_empty() {
        write!(out, "{} {}{end}", message.status, message.progress)
    } else if !message.stream.is_empty() {
        write!(out, "{}{end}", message.stream)
    } else {
        writeln!(out, "{}{end}", message.status)
    }
}

fn text(detail: &api::progress::Detail, width: u32) -> String {
    if detail.current <= 0 && detail.total <= 0 {
        return String::new();
    }
    if !detail.units.is_empty() {
        return match detail.total {
            0 => format!("{} {}", detail.current, detail.units),
            total => format!("{}/{total} {}", detail.current, detail.units),
        };
    }
    if width > WIDE || detail.total <= 0 || detail.current > detail.total {
        return bar(detail.current, detail.total);
    }
    format!("{:>8}/{}", human(detail.current), human(detail.total))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PULL: &str = concat!(
        "{\"status\":\"Pulling from library/busybox\",\"id\":\"latest\"}\r\n",
        "{\"status\":\"Pulling fs layer\",\"progressDetail\":{},\"id\":\"aa\"}\r\n",
        "{\"status\":\"Downloading\",\"progressDetail\":{\"current\":512,\"total\":1024},\"progress\":\"[>]\",\"id\":\"aa\"}\r\n",
        "{\"status\":\"Pull complete\",\"progressDetail\":{},\"id\":\"aa\"}\r\n",
        "{\"status\":\"Digest: sha256:1\"}\r\n",
    );

    #[test]
    fn plain_and_drawn() {
        let mut out = Vec::new();
        lines(PULL.as_bytes(), &mut out, false).unwrap();
        let plain = String::from_utf8(out).unwrap();
        assert_eq!(
            plain,
            "latest: Pulling from library/busybox\naa: Pulling fs layer\naa: Pull complete\nDigest: sha256:1\n"
        );
        let mut out = Vec::new();
        lines(PULL.as_bytes(), &mut out, true).unwrap();
        let drawn = String::from_utf8(out).unwrap();
        assert!(
            drawn.contains("\n\x1b[1A\x1b[2K\raa: Pulling fs layer \r\x1b[1B"),
            "{drawn:?}"
        );
        assert!(drawn.contains("512B/1.024kB\r\x1b[1B"));
        let failed = lines(
            &b"{\"errorDetail\":{\"message\":\"no\"},\"error\":\"no\"}\n"[..],
            &mut Vec::new(),
            false,
        );
        assert_eq!(failed.unwrap_err().text, "no");
    }
}
