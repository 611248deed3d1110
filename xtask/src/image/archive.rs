//! An image as one archive: an OCI layout that is also what `docker save` writes, so that every tool loads it.

use std::io::{self, Write};

use flate2::{Compression, GzBuilder};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tar::{EntryType, Header};

use super::contents::{Layer, Source, USER};
use super::{Image, problem};
use crate::Problems;

/// A whole image in memory.
pub struct Archive {
    /// Name and version, such as `pintail-runner:0.1.0`.
    pub reference: String,
    layers: Vec<(&'static str, Blob)>,
    config: Blob,
    manifest: Blob,
}

struct Blob {
    bytes: Vec<u8>,
    /// `sha256:<hex>`.
    digest: String,
}

impl Blob {
    fn new(bytes: Vec<u8>) -> Self {
        let digest = shown(Sha256::digest(&bytes).as_slice());
        Self { bytes, digest }
    }

    fn json(value: &Value) -> Self {
        Self::new(value.to_string().into_bytes())
    }

    fn path(&self) -> String {
        format!("blobs/{}", self.digest.replace(':', "/"))
    }

    fn descriptor(&self, media_type: &str) -> Value {
        json!({ "mediaType": media_type, "digest": self.digest, "size": self.bytes.len() })
    }
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

impl Archive {
    pub fn new(image: &Image, prefix: &str) -> Result<Self, Problems> {
        let mut layers = Vec::new();
        let mut diff_ids = Vec::new();
        for layer in &image.layers {
            let (blob, diff_id) = pack(layer).map_err(|error| vec![format!("{}: {error}", image.name)])?;
            layers.push((layer.name, blob));
            diff_ids.push(diff_id);
        }
        let config = Blob::json(&config(image, &diff_ids)?);
        let manifest = Blob::json(&json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": config.descriptor(CONFIG),
            "layers": layers.iter().map(|(_, layer)| layer.descriptor(LAYER)).collect::<Vec<_>>(),
        }));
        let prefix = if prefix.is_empty() { String::new() } else { format!("{}/", prefix.trim_end_matches('/')) };
        let reference = format!("{prefix}{}:{}", image.name, env!("CARGO_PKG_VERSION"));
        Ok(Self { reference, layers, config, manifest })
    }

    /// By which a registry names the image, and a pod can.
    pub fn digest(&self) -> &str {
        &self.manifest.digest
    }

    /// What a node loads.
    pub fn compressed_bytes(&self) -> usize {
        self.layers.iter().map(|(_, layer)| layer.bytes.len()).sum()
    }

    pub fn layer_bytes(&self) -> impl Iterator<Item = (&'static str, usize)> {
        self.layers.iter().map(|(name, layer)| (*name, layer.bytes.len()))
    }

    /// The archive: uncompressed, as its layers are compressed.
    pub fn bytes(&self) -> Result<Vec<u8>, Problems> {
        self.write().map_err(|error| vec![format!("{}: {error}", self.reference)])
    }

    fn write(&self) -> io::Result<Vec<u8>> {
        let mut tar = tar::Builder::new(Vec::new());
        let mut add = |path: &str, bytes: &[u8]| {
            let mut header = header(EntryType::Regular, 0o644, bytes.len() as u64);
            tar.append_data(&mut header, path, bytes)
        };
        add("oci-layout", json!({ "imageLayoutVersion": "1.0.0" }).to_string().as_bytes())?;
        add("index.json", self.index().to_string().as_bytes())?;
        add("manifest.json", self.docker_manifest().to_string().as_bytes())?;
        for blob in self.layers.iter().map(|(_, layer)| layer).chain([&self.config, &self.manifest]) {
            add(&blob.path(), &blob.bytes)?;
        }
        tar.into_inner()
    }

    /// containerd takes the name from its own annotation, others from the tag.
    fn index(&self) -> Value {
        let mut manifest = self.manifest.descriptor(MANIFEST);
        manifest["annotations"] = json!({
            "io.containerd.image.name": full_name(&self.reference),
            "org.opencontainers.image.ref.name": env!("CARGO_PKG_VERSION"),
        });
        manifest["platform"] = json!({ "architecture": architecture(), "os": "linux" });
        json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [manifest],
        })
    }

    fn docker_manifest(&self) -> Value {
        let layers: Vec<String> = self.layers.iter().map(|(_, layer)| layer.path()).collect();
        json!([{ "Config": self.config.path(), "RepoTags": [self.reference], "Layers": layers }])
    }
}

fn config(image: &Image, diff_ids: &[String]) -> Result<Value, Problems> {
    const NO_TIME: &str = "1970-01-01T00:00:00Z";
    let environment: Vec<&str> = ["PATH=/bin", "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt"]
        .iter()
        .chain(image.environment)
        .copied()
        .collect();
    let history = image.layers.iter().map(|layer| json!({ "created": NO_TIME, "created_by": layer.name }));
    Ok(json!({
        "created": NO_TIME,
        "architecture": architecture(),
        "os": "linux",
        "config": {
            "User": format!("{USER}:{USER}"),
            "Env": environment,
            "Entrypoint": [format!("/bin/{}", image.name)],
            "WorkingDir": "/",
            "Labels": {
                "org.opencontainers.image.title": image.name,
                "org.opencontainers.image.description": image.description,
                "org.opencontainers.image.version": env!("CARGO_PKG_VERSION"),
                "org.opencontainers.image.licenses": env!("CARGO_PKG_LICENSE"),
            },
        },
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
        "history": history.collect::<Vec<_>>(),
    }))
}

/// The compressed layer, and the digest of what it is without compression.
fn pack(layer: &Layer) -> io::Result<(Blob, String)> {
    // No name, no time, no operating system.
    let compressed = GzBuilder::new().mtime(0).operating_system(255).write(Vec::new(), Compression::default());
    let mut tar = tar::Builder::new(Hashing { inner: compressed, hash: Sha256::new() });
    for (path, file) in &layer.files {
        let bytes = match &file.source {
            Source::Folder => {
                let mut header = header(EntryType::Directory, file.mode, 0);
                tar.append_data(&mut header, format!("{path}/"), io::empty())?;
                continue;
            }
            Source::Bytes(bytes) => bytes.clone(),
            Source::Path(path) => std::fs::read(path).map_err(|error| named(path, &error))?,
        };
        let mut header = header(EntryType::Regular, file.mode, bytes.len() as u64);
        tar.append_data(&mut header, path, bytes.as_slice())?;
    }
    let Hashing { inner, hash } = tar.into_inner()?;
    Ok((Blob::new(inner.finish()?), shown(hash.finalize().as_slice())))
}

/// Every field that tells of a machine or a time is zero or empty.
fn header(kind: EntryType, mode: u32, bytes: u64) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(bytes);
    header
}

fn named(path: &std::path::Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), problem(path, error).concat())
}

/// Hashes what it passes on.
struct Hashing<W> {
    inner: W,
    hash: Sha256,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hash.update(bytes.get(..written).unwrap_or_default());
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

fn shown(hash: &[u8]) -> String {
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// As a kubelet asks for it: a short name is one of the default registry's library.
fn full_name(reference: &str) -> String {
    match reference.split_once('/') {
        None => format!("docker.io/library/{reference}"),
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => reference.to_owned(),
        Some(_) => format!("docker.io/{reference}"),
    }
}

/// As container tools name that of this machine, whose programs and libraries the image has.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
