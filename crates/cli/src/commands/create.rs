//! `create`: makes a container without starting it.

use super::container_config;
use super::container_flags::{FLAGS, is_image_id};
use super::requests::{self, pull};
use crate::cli::Cli;
use crate::command::{Args, Command, Failure};
use crate::flags::Parsed;
use crate::progress::Shown;
use api::client::{Client, Payload, Request};
use api::container::{CreateRequest, CreateResponse};
use api::json::Empty;
use oci::reference::Reference;
use std::fs::{File, OpenOptions};
use std::io::Write;

pub const COMMAND: Command = Command::new(
    &["container create", "create"],
    "[OPTIONS] IMAGE [COMMAND] [ARG...]",
    "Create a new container",
    Args::AtLeast(1),
    run,
)
.flags(&[FLAGS])
.stop_at_args()
.examples(&["create --name web -p 8080:80 nginx"]);

fn run(cli: &Cli, parsed: &Parsed) -> Result<(), Failure> {
    let told = |why: String| with_help(cli, "create", 125, &why);
    pull_policy(parsed).map_err(told)?;
    let wanted = container_config::request(parsed, false).map_err(told)?;
    cli.say(create(cli, parsed, wanted)?)
}

/// A failure as docker tells it, with a hint.
pub fn with_help(cli: &Cli, command: &str, code: i32, why: &str) -> Failure {
    let program = &cli.program;
    let why = why.trim_end_matches('\n');
    Failure {
        code,
        text: format!("{program}: {why}\n\nRun '{program} {command} --help' for more information"),
    }
}

fn pull_policy(parsed: &Parsed) -> Result<&str, String> {
    let policy = parsed.get("pull").unwrap_or("missing");
    match policy {
        "always" | "missing" | "never" | "" => Ok(policy),
        _ => Err(format!(
            "invalid pull option: '{policy}': must be one of \"always\", \"missing\" or \"never\""
        )),
    }
}

/// Makes a container, pulling its image where it is missing; gives the ID. Warnings are told.
pub fn create(cli: &Cli, parsed: &Parsed, wanted: CreateRequest) -> Result<String, Failure> {
    let policy = pull_policy(parsed).map_err(Failure::new)?;
    warn_of_dns(cli, &wanted);
    let mut id_file = IdFile::open(parsed.text("cidfile"))?;
    let platform = requests::platform(parsed.text("platform"));
    requests::check_platform(&platform)?;
    let image = wanted.config.image.clone();
    let reference = match is_image_id(&image) {
        true => None,
        false => Some(requests::reference(&image).map_err(Failure::new)?.or_latest()),
    };
    let fetch = |reference: &Reference| {
        let shown = if parsed.bool("quiet") {
            Shown::Nowhere
        } else {
            Shown::Error
        };
        pull(cli, reference, (&platform, ""), shown)
    };
    if policy == "always"
        && let Some(reference) = &reference
    {
        fetch(reference)?;
    }
    let body = body(&cli.client, &wanted)?;
    let post = || -> Result<CreateResponse, api::client::Error> {
        let request = Request::post("/containers/create")
            .query_unless_empty("name", parsed.text("name"))
            .query_unless_empty("platform", &platform)
            .payload(Payload::Json(body.clone()));
        cli.client.send(request)?.json()
    };
    let made = match (post(), &reference) {
        (Err(e), Some(reference)) if e.is_not_found() && policy != "never" && policy != "always" => {
            let why = e.to_string().to_lowercase();
            if !why.contains("no such image") && !why.contains("does not match the specified platform") {
                return Err(e.into());
            }
            // Standard output stays clean for the container's.
            cli.warn(format!("Unable to find image '{}' locally", reference.familiar()));
            fetch(reference)?;
            post()?
        }
        (result, _) => result?,
    };
    for warning in &made.warnings {
        cli.warn(format!("WARNING: {warning}"));
    }
    id_file.write(&made.id)?;
    Ok(made.id)
}

/// The request's body as this daemon reads it: older ones take only one network, and some values moved.
fn body(client: &Client, wanted: &CreateRequest) -> Result<Vec<u8>, Failure> {
    let mut wanted = wanted.clone();
    if client.speaks(44)? {
        wanted.config.mac_address.clear();
    } else if let [endpoint] = wanted
        .networking
        .endpoints_config
        .values_mut()
        .collect::<Vec<_>>()
        .as_mut_slice()
    {
        // Before API 1.44 the address was the container's.
        if let Some(endpoint) = endpoint {
            endpoint.mac_address.clear();
        }
    } else if wanted.networking.endpoints_config.len() > 1 {
        let version = client.version()?;
        return Err(Failure::new(format!(
            "Container cannot be created with multiple network endpoints: requires API version 1.44, the daemon speaks {version}"
        )));
    }
    // What is empty here is an empty set, not nothing, as docker sends it.
    wanted.config.exposed_ports.get_or_insert_default();
    wanted
        .config
        .volumes
        .get_or_insert_with(std::collections::BTreeMap::<String, Empty>::new);
    Ok(wanted.to_vec())
}

fn warn_of_dns(cli: &Cli, wanted: &CreateRequest) {
    let local = |address: &&String| address.starts_with("127.") || *address == "::1";
    if let Some(address) = wanted.host_config.dns.iter().flatten().find(local) {
        cli.warn(format!("WARNING: Localhost DNS ({address}) may fail in containers."));
    }
}

/// `--cidfile`: must not exist before, and does not stay if there is no container.
struct IdFile {
    file: Option<(String, File)>,
    written: bool,
}

impl IdFile {
    fn open(path: &str) -> Result<IdFile, Failure> {
        if path.is_empty() {
            return Ok(IdFile {
                file: None,
                written: false,
            });
        }
        let opened = OpenOptions::new().write(true).create_new(true).open(path);
        let file = opened.map_err(|e| match e.kind() {
            std::io::ErrorKind::AlreadyExists => Failure::new(format!(
                "container ID file found, make sure the other container isn't running or delete {path}"
            )),
            _ => Failure::new(format!(
                "failed to create the container ID file: open {path}: {}",
                crate::command::errno_text(&e)
            )),
        })?;
        Ok(IdFile {
            file: Some((path.to_string(), file)),
            written: false,
        })
    }

    fn write(&mut self, id: &str) -> Result<(), Failure> {
        if let Some((_, file)) = &mut self.file {
            file.write_all(id.as_bytes())?;
            self.written = true;
        }
        Ok(())
    }
}

impl Drop for IdFile {
    fn drop(&mut self) {
        if let (Some((path, _)), false) = (&self.file, self.written) {
            // It was empty; a leftover would stop the next attempt.
            let _ = std::fs::remove_file(path);
        }
    }
}
