use std::io;
use std::path::Path;

/// `blake3:<hex>` of some bytes, as in [`pintail_protocol::StoredFile::digest`].
#[must_use]
pub fn digest(bytes: &[u8]) -> String {
    shown(blake3::hash(bytes))
}

/// `blake3:<hex>` of a file. On all cores over a memory map: data files are large, and every one is hashed when it is
/// stored and when it is read.
pub(crate) fn file_digest(path: &Path) -> io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_mmap_rayon(path)?;
    Ok(shown(hasher.finalize()))
}

fn shown(hash: blake3::Hash) -> String {
    format!("blake3:{}", hash.to_hex())
}
