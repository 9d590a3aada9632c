//! What routes that carry a container's streams have in common.

use crate::route::Request;
use engine::error::{Error, Result};

/// The media type of a stream: since API 1.42 it tells whether there are frames.
pub fn stream_kind(request: &Request, framed: bool) -> &'static str {
    match framed && request.at_least(1, 42) {
        true => "application/vnd.docker.multiplexed-stream",
        false => "application/vnd.docker.raw-stream",
    }
}

/// Height and width, from the query.
pub fn size_of(request: &Request) -> Result<(u16, u16)> {
    let side = |name: &str| -> Result<u16> {
        let text = request.query.text(name);
        text.parse().map_err(|_| {
            Error::invalid(format!(
                "invalid resize {name}: strconv.ParseUint: parsing \"{text}\": invalid syntax"
            ))
        })
    };
    Ok((side("h")?, side("w")?))
}
