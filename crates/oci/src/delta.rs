//! What a delta of ours is called as an OCI artifact: media types and annotations. `docs/deltas.md` describes it.

/// The artifact's type: a set of deltas that make one image's layers.
pub const ARTIFACT: &str = "application/vnd.balena.delta.v1";
/// A blob of it: one layer's delta.
pub const LAYER: &str = "application/vnd.balena.delta.layer.v1";
/// The media type of an artifact's empty config, `{}`.
pub const EMPTY: &str = "application/vnd.oci.empty.v1+json";

/// Of a blob: the diff ID of the layer that it makes.
pub const TARGET: &str = "io.balena.delta.target";
/// Of a blob, the diff IDs of the layers it reads, between commas; of the artifact, those of all its blobs.
pub const BASES: &str = "io.balena.delta.bases";
/// Of the artifact: bytes of all its deltas.
pub const SIZE: &str = "io.balena.delta.size";
/// Of the artifact: bytes of the layers' blobs that it stands for.
pub const FULL: &str = "io.balena.delta.full";
/// Of the artifact: bytes that applying it adds to a disk, in blocks of 4 KiB.
pub const SPACE: &str = "io.balena.delta.space";
/// Of a blob: bytes of the files that its layer has new or patched, in blocks of 4 KiB, which are written wherever it is applied.
pub const WRITTEN: &str = "io.balena.delta.written";
/// Of the artifact: when the target was made.
pub const CREATED: &str = "org.opencontainers.image.created";
