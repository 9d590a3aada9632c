//! Registries that are asked without a daemon, as docker's client asks them for `manifest`: what the process that asks
//! them reads, and what it answers.
//!
//! The job is one [frame](crate::stdcopy) of "standard input", JSON of [`JOB`] bytes at most. Each answer is a frame of
//! "standard output" of [`ANSWER`] bytes at most. What went wrong is the text of a last frame, a "system error", in the
//! words of docker's client.

use json::{Deserialize, Raw, Serialize};
use std::collections::BTreeMap;

/// Most bytes of a job: the manifests of a list that is pushed, in base64.
pub const JOB: u32 = 32 << 20;
/// Most bytes of an answer: 4 MiB of manifests in base64, and the platforms that go with them.
pub const ANSWER: u32 = 16 << 20;

/// What is asked, and how.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Job {
    pub ask: Ask,
    /// Registries may be spoken to in the clear, and have certificates that nobody vouches for.
    pub insecure: bool,
    /// `X-Registry-Auth` headers by registry.
    pub credentials: BTreeMap<String, String>,
}

/// What is asked. Names are written in full.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ask {
    /// The image that each of the names stands for: an [`Image`] for each, in their order.
    Images { names: Vec<String> },
    /// What a name stands for, a list too: one [`Found`].
    Find { name: String },
    /// A list is put where its name says: the digest, as text, of each image that is taken over, then the list's own.
    Push {
        name: String,
        media_type: String,
        text: String,
        /// Images of the list that lie in other repositories of the registry, and are to be beside it.
        elsewhere: Vec<Elsewhere>,
    },
}

/// What a name stands for.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Found {
    Image { image: Image },
    List { images: Vec<Image> },
}

/// An image in a registry.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Image {
    pub name: String,
    pub digest: String,
    /// The manifest as the registry has it, in base64; JSON that was looked at.
    pub manifest: String,
    /// It is OCI's kind of manifest, not Docker's.
    pub oci: bool,
    /// What its config says that it is for, or what the list that has it says: OCI's `platform`.
    pub platform: Raw,
}

/// An image that lies in another repository.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Elsewhere {
    pub name: String,
    /// Of the manifest.
    pub digest: String,
    pub media_type: String,
    /// In base64.
    pub manifest: String,
    /// Blobs that its repository has not are left out: layers of Windows' own are on no registry.
    pub incomplete: bool,
}
