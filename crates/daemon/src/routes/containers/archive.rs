//! `HEAD`, `GET` and `PUT /containers/{id}/archive`: files into and out of a container.

use crate::route::{Answer, Request, Route, drain};
use engine::Engine;
use engine::copy::{self, Extract};
use engine::error::{Error, Result};
use json::Serialize;
use std::sync::Arc;

const PATH: &str = "containers/{id}/archive";

pub const HEAD: Route = Route {
    method: "HEAD",
    path: PATH,
    run: head,
};

pub const GET: Route = Route {
    method: "GET",
    path: PATH,
    run: get,
};

pub const PUT: Route = Route {
    method: "PUT",
    path: PATH,
    run: put,
};

fn path_of(request: &Request) -> Result<String> {
    match request.query.text("path") {
        "" => Err(Error::invalid("bad parameter: 'path' cannot be empty")),
        path => Ok(path.to_string()),
    }
}

fn stat(engine: &Engine, name: &str, path: &str) -> Result<Vec<(&'static str, String)>> {
    let found = copy::stat(engine, name, path)?;
    let wire = Wire {
        name: found.name,
        size: found.size,
        mode: go_mode(found.mode),
        mtime: api::time::Time {
            seconds: found.mtime.0,
            nanos: found.mtime.1,
        }
        .to_rfc3339(),
        link_target: found.link_target,
    };
    let json = json::to_vec(&wire);
    Ok(vec![("x-docker-container-path-stat", oci::base64::encode(&json))])
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    name: String,
    size: i64,
    mode: u32,
    mtime: String,
    link_target: String,
}

/// `st_mode` as Go's `os.FileMode`.
fn go_mode(mode: u32) -> u32 {
    let kind = match mode & 0o170_000 {
        0o040_000 => 1 << 31,
        0o120_000 => 1 << 27,
        0o060_000 => 1 << 26,
        0o020_000 => 1 << 26 | 1 << 21,
        0o010_000 => 1 << 25,
        0o140_000 => 1 << 24,
        _ => 0,
    };
    let bits = [(0o4000, 1 << 23), (0o2000, 1 << 22), (0o1000, 1 << 20)];
    let special: u32 = bits.iter().filter(|(bit, _)| mode & bit != 0).map(|(_, go)| go).sum();
    kind | special | mode & 0o777
}

fn head(engine: &Arc<Engine>, request: Request) -> Result<Answer> {
    let headers = stat(engine, request.parameter("id"), &path_of(&request)?)?;
    Ok(Answer::Body {
        status: 200,
        kind: "",
        bytes: Vec::new(),
        headers,
    })
}

fn get(engine: &Arc<Engine>, request: Request) -> Result<Answer> {
    let (name, path) = (request.parameter("id").to_string(), path_of(&request)?);
    let headers = stat(engine, &name, &path)?;
    let engine = engine.clone();
    Ok(Answer::Stream {
        kind: "application/x-tar",
        headers,
        run: Box::new(move |mut out| {
            let mut out = std::io::BufWriter::with_capacity(64 * 1024, &mut *out);
            copy::archive(&engine, &name, &path, &mut out)
        }),
    })
}

fn put(engine: &Arc<Engine>, mut request: Request) -> Result<Answer> {
    let path = path_of(&request)?;
    let wanted = Extract {
        path: &path,
        keep_kinds: request.query.flag("noOverwriteDirNonDir"),
        own: request.query.flag("copyUIDGID"),
    };
    let name = request.parameter("id").to_string();
    let done = copy::extract(engine, &name, &wanted, &mut request.body);
    if done.is_err() && !request.cancel.is_set() {
        drain(&mut request.body);
    }
    done.map(|()| Answer::Empty(200))
}

#[cfg(test)]
mod tests {
    use super::go_mode;

    #[test]
    fn modes_as_go_has_them() {
        for (mode, go) in [
            (0o100_644, 0o644),
            (0o040_755, 0x8000_0000 | 0o755),
            (0o120_777, 0x0800_0000 | 0o777),
            (0o104_755, 0x0080_0000 | 0o755),
            (0o041_777, 0x8010_0000 | 0o777),
            (0o020_600, 0x0420_0000 | 0o600),
        ] {
            assert_eq!(go_mode(mode), go, "{mode:o}");
        }
    }
}
