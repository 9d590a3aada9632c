//! `manifest inspect`: what a registry has under a name. It is asked by the daemon, whose settings say which registries
//! are insecure and what proxy and mirrors there are; docker's client asks by itself.

use crate::cli::Cli;
use crate::command::{Args, Command, Failure};
use crate::config::auth_header;
use crate::flags::{Flag, Parsed};
use crate::rows::indent_by;
use api::client::Request;
use json::Raw;
use json::{Deserialize, Serialize};
use oci::base64;
use oci::reference::Reference;

pub const COMMAND: Command = Command::new(
    &["manifest inspect"],
    "[OPTIONS] [MANIFEST_LIST] MANIFEST",
    "Display an image manifest, or manifest list",
    Args::Between(1, 2),
    run,
)
.flags(&[&[
    Flag::bool("insecure", "Allow communication with an insecure registry"),
    Flag::bool("verbose", "Output additional info including layers and platform").short('v'),
]])
.examples(&["manifest inspect busybox", "manifest inspect -v busybox:latest"]);

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Found {
    #[serde(default)]
    list_media_type: String,
    images: Vec<Image>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Image {
    #[serde(rename = "Ref")]
    name: String,
    descriptor: Descriptor,
    raw: String,
}

/// In the order of the fields in what is printed of an image.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: String,
    digest: String,
    size: u64,
    platform: oci::platform::Platform,
}

fn run(cli: &Cli, parsed: &Parsed) -> Result<(), Failure> {
    let [name] = &parsed.args[..] else {
        return Err(Failure::new(
            "manifest lists of one's own are not supported yet by balena",
        ));
    };
    let reference = Reference::parse(name).map_err(|e| Failure::new(e.to_string()))?;
    let host = reference.repository().domain();
    let credentials = cli.config.borrow().credentials(host);
    let request = Request::get(format!("/distribution/{name}/manifests"))
        .header("X-Registry-Auth", auth_header(credentials.as_ref(), host));
    let found: Found = cli.client.send(request)?.json()?;
    let text = match (parsed.bool("verbose"), &found.images[..]) {
        (false, [image]) if found.list_media_type.is_empty() => indent_by(document(image)?.get(), "\t"),
        (false, _) => list(&found)?,
        (true, [image]) if found.list_media_type.is_empty() => indent_by(&verbose(image)?, "\t"),
        (true, images) => {
            let all = images.iter().map(verbose).collect::<Result<Vec<_>, _>>()?;
            indent_by(&format!("[{}]", all.join(",")), "\t")
        }
    };
    cli.print(&(text + "\n"))
}

fn encoding(error: json::Error) -> Failure {
    Failure::new(format!("manifest: {error}"))
}

/// The manifest as it is in the registry.
fn document(image: &Image) -> Result<Raw, Failure> {
    let bytes = base64::decode(&image.raw).unwrap_or_default();
    json::from_slice(&bytes).map_err(encoding)
}

fn list(found: &Found) -> Result<String, Failure> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct List<'a> {
        schema_version: u32,
        media_type: &'a str,
        manifests: Vec<Listed<'a>>,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Listed<'a> {
        media_type: &'a str,
        size: u64,
        digest: &'a str,
        platform: &'a oci::platform::Platform,
    }
    let manifests = found.images.iter().map(|Image { descriptor, .. }| Listed {
        media_type: &descriptor.media_type,
        size: descriptor.size,
        digest: &descriptor.digest,
        platform: &descriptor.platform,
    });
    let list = List {
        schema_version: 2,
        media_type: &found.list_media_type,
        manifests: manifests.collect(),
    };
    Ok(indent_by(&json::to_string(&list), "   "))
}

fn verbose(image: &Image) -> Result<String, Failure> {
    let name = match image.descriptor.media_type.contains("vnd.oci.") {
        true => "OCIManifest",
        false => "SchemaV2Manifest",
    };
    Ok(format!(
        "{{\"Ref\":{},\"Descriptor\":{},\"Raw\":{},\"{name}\":{}}}",
        json::to_string(&image.name),
        json::to_string(&image.descriptor),
        json::to_string(&image.raw),
        document(image)?.get()
    ))
}
