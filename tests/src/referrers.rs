//! In front of a registry without the referrers API (Debian's): a server that has it, or one where another client
//! changes the same list at the same time.

use crate::http::{self, Answer};
use crate::image::{INDEX, sha256};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Error, Read, Result, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// What it does beside passing requests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// The referrers API of distribution 1.1.
    Api,
    /// The first list of referrers that is pushed under a tag is lost: somebody else's takes its place.
    Race,
}

/// A running one; it ends with the process.
pub struct Referrers {
    pub port: u16,
    requests: Arc<Mutex<Vec<String>>>,
}

#[derive(Default)]
struct State {
    /// By subject.
    lists: BTreeMap<String, Vec<Value>>,
    lost: bool,
}

impl Referrers {
    /// Stands in front of the registry on a port of 127.0.0.1.
    pub fn start(registry: u16, manner: Manner) -> Result<Referrers> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let (state, requests): (Arc<Mutex<State>>, Arc<Mutex<Vec<String>>>) = Default::default();
        let kept = requests.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (state, kept) = (state.clone(), kept.clone());
                // A client that hangs up is the client's business.
                std::thread::spawn(move || drop(serve(stream, registry, port, manner, &state, &kept)));
            }
        });
        Ok(Referrers { port, requests })
    }

    /// How a daemon names a repository here.
    pub fn name(&self, repository: &str) -> String {
        format!("127.0.0.1:{}/{repository}", self.port)
    }

    /// Methods and targets so far.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().map(|all| all.clone()).unwrap_or_default()
    }
}

fn serve(
    stream: TcpStream,
    registry: u16,
    port: u16,
    manner: Manner,
    state: &Mutex<State>,
    requests: &Mutex<Vec<String>>,
) -> Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut out = stream;
    loop {
        let mut first = String::new();
        if reader.read_line(&mut first)? == 0 {
            return Ok(());
        }
        let (mut headers, mut length) = (Vec::new(), 0);
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(": ") else {
                break;
            };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.parse().map_err(Error::other)?,
                "host" | "connection" => {}
                _ => headers.push((name.to_string(), value.to_string())),
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let mut words = first.split(' ');
        let (method, target) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        if let Ok(mut requests) = requests.lock() {
            requests.push(format!("{method} {target}"));
        }
        let mut state = state.lock().map_err(|_| Error::other("a thread panicked"))?;
        let answer = match (manner, target.split_once("/referrers/")) {
            (Manner::Api, Some((_, subject))) => list(&state, subject),
            _ => pass(&mut state, manner, registry, (method, target), &headers, &body)?,
        };
        drop(state);
        let mut head = format!("HTTP/1.1 {} x\r\n", answer.status);
        for (name, value) in &answer.headers {
            let hop = ["content-length", "transfer-encoding", "connection"];
            if !hop.contains(&name.to_ascii_lowercase().as_str()) {
                let here = format!("http://127.0.0.1:{port}/");
                head.push_str(&format!("{name}: {}\r\n", value.replace("http://localhost/", &here)));
            }
        }
        let length = match method {
            "HEAD" => answer.header("content-length").unwrap_or("0").to_string(),
            _ => answer.body.len().to_string(),
        };
        out.write_all(format!("{head}Content-Length: {length}\r\n\r\n").as_bytes())?;
        if method != "HEAD" {
            out.write_all(&answer.body)?;
        }
    }
}

fn list(state: &State, subject: &str) -> Answer {
    let (subject, query) = subject.split_once('?').unwrap_or((subject, ""));
    let wanted = query.split('&').find_map(|part| part.strip_prefix("artifactType="));
    let wanted = wanted.map(|kind| kind.replace("%2F", "/").replace("%2f", "/"));
    let all = state.lists.get(subject).cloned().unwrap_or_default();
    let fits = |entry: &&Value| wanted.as_ref().is_none_or(|wanted| entry["artifactType"] == **wanted);
    let fitting: Vec<&Value> = all.iter().filter(fits).collect();
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": fitting});
    let mut headers = vec![("Content-Type".to_string(), INDEX.to_string())];
    if wanted.is_some() {
        headers.push(("OCI-Filters-Applied".into(), "artifactType".into()));
    }
    Answer {
        status: 200,
        headers,
        body: index.to_string().into_bytes(),
    }
}

fn pass(
    state: &mut State,
    manner: Manner,
    registry: u16,
    (method, target): (&str, &str),
    headers: &[(String, String)],
    body: &[u8],
) -> Result<Answer> {
    let headers: Vec<(&str, &str)> = headers.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
    if manner == Manner::Race && method == "PUT" && target.contains("/manifests/sha256-") && !state.lost {
        state.lost = true;
        // docker-registry takes an index only of what it has.
        let mut index: Value = serde_json::from_slice(body)?;
        let mut known = index["manifests"][0].clone();
        known["artifactType"] = "application/x.other".into();
        known["annotations"] = json!({"whose": "another's"});
        index["manifests"] = json!([known]);
        let bytes = index.to_string().into_bytes();
        let mut said = http::local(registry, method, target, &headers, &bytes)?;
        // The client is told that its own was taken.
        said.headers
            .retain(|(name, _)| !name.eq_ignore_ascii_case("docker-content-digest"));
        return Ok(said);
    }
    let mut answer = http::local(registry, method, target, &headers, body)?;
    let created = method == "PUT" && target.contains("/manifests/") && answer.status == 201;
    if manner == Manner::Api && created {
        let manifest: Value = serde_json::from_slice(body)?;
        if let Some(subject) = manifest["subject"]["digest"].as_str() {
            let entry = json!({
                "mediaType": manifest["mediaType"], "artifactType": manifest["artifactType"],
                "annotations": manifest["annotations"], "digest": sha256(body), "size": body.len(),
            });
            let list = state.lists.entry(subject.to_string()).or_default();
            list.retain(|known| known["digest"] != entry["digest"]);
            list.push(entry);
            answer.headers.push(("OCI-Subject".into(), subject.to_string()));
        }
    }
    Ok(answer)
}
