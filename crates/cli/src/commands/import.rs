//! `import`: an image from a tar of files.

use super::requests;
use crate::cli::Cli;
use crate::command::{Args, Command, Failure};
use crate::flags::{Flag, Parsed};
use crate::input;
use crate::progress::{self, Shown};
use api::client::{Payload, Request};
use std::io::Read;

pub const COMMAND: Command = Command::new(
    &["image import", "import"],
    "[OPTIONS] file|URL|- [REPOSITORY[:TAG]]",
    "Import the contents from a tarball to create a filesystem image",
    Args::AtLeast(1),
    run,
)
.flags(&[&[
    Flag::list("change", "Apply Dockerfile instruction to the created image").short('c'),
    Flag::text("message", "Set commit message for imported image").short('m'),
    Flag::text("platform", "Set platform if server is multi-platform capable"),
]])
.examples(&["import rootfs.tar.gz base:1", "import -c 'CMD[\"sh\"]' - base"]);

fn run(cli: &Cli, parsed: &Parsed) -> Result<(), Failure> {
    let source = parsed.first();
    let name = parsed.args.get(1).map_or("", String::as_str);
    let url = source.starts_with("http://") || source.starts_with("https://");
    let mut content: Box<dyn Read> = match source {
        "-" => input::open(None)?,
        _ if url => Box::new(std::io::empty()),
        path => input::open(Some(path))?,
    };
    let mut request = Request::post("/images/create")
        .query("fromSrc", if url { source } else { "-" })
        .query_unless_empty("message", parsed.text("message"));
    if !name.is_empty() {
        let reference = requests::reference(name).map_err(Failure::new)?.or_latest();
        // A digest is for the daemon to refuse.
        request = match reference.digest() {
            Some(_) => request.query("repo", reference.familiar()),
            None => request
                .query("repo", reference.repository().familiar())
                .query_unless_empty("tag", reference.tag().unwrap_or_default()),
        };
    }
    for change in parsed.list("change") {
        request = request.query("changes", change);
    }
    let request = request
        .query_unless_empty("platform", &requests::platform(parsed.text("platform")).to_lowercase())
        .payload(Payload::Stream(&mut *content, "text/plain"));
    let body = cli.client.send(request)?.body;
    progress::show(body, Shown::Output)
}
