//! The files of an image.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::{closure, problem};
use crate::Problems;

/// The user of both images; nothing in them belongs to it.
pub const USER: u32 = 65532;

const CERTIFICATES: &str = "etc/ssl/certs/ca-certificates.crt";

/// Files that change together, by their path from the image's root, without a slash at its start.
pub struct Layer {
    pub name: &'static str,
    pub files: BTreeMap<String, File>,
}

/// Owned by root.
pub struct File {
    pub mode: u32,
    pub source: Source,
}

pub enum Source {
    Folder,
    Bytes(Vec<u8>),
    Path(PathBuf),
}

impl Layer {
    fn new(name: &'static str) -> Self {
        Self { name, files: BTreeMap::new() }
    }

    fn add(&mut self, path: &str, mode: u32, source: Source) {
        for (at, _) in path.match_indices('/') {
            let folder = File { mode: 0o755, source: Source::Folder };
            self.files.entry(path[..at].to_owned()).or_insert(folder);
        }
        self.files.insert(path.to_owned(), File { mode, source });
    }
}

/// What every program needs: its libraries and loader, certificates, users, and a place for temporary files.
///
/// Libraries stand where this machine's loader looks for them, those of the project (DuckDB) in /lib, beside /bin.
pub fn base(programs: &[&Path], root: &Path) -> Result<Layer, Problems> {
    let mut layer = Layer::new("base");
    for program in programs {
        for library in closure::libraries(program)? {
            let real = fs::canonicalize(&library).map_err(|error| problem(&library, &error))?;
            let name = library.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let path = if real.starts_with(root) || library.starts_with(root) {
                format!("lib/{name}")
            } else {
                library.to_string_lossy().trim_start_matches('/').to_owned()
            };
            layer.add(&path, 0o755, Source::Path(real));
        }
    }
    let text = |text: String| Source::Bytes(text.into_bytes());
    layer.add(CERTIFICATES, 0o644, text(certificates()));
    let passwd = format!("root:x:0:0:root:/:/sbin/nologin\nnonroot:x:{USER}:{USER}:nonroot:/:/sbin/nologin\n");
    layer.add("etc/passwd", 0o644, text(passwd));
    layer.add("etc/group", 0o644, text(format!("root:x:0:\nnonroot:x:{USER}:\n")));
    layer.add("etc/nsswitch.conf", 0o644, text("hosts: files dns\n".to_owned()));
    layer.add("tmp", 0o1777, Source::Folder);
    Ok(layer)
}

/// The program, in /bin.
pub fn program(program: &Path) -> Result<Layer, Problems> {
    let name = program.file_name().unwrap_or_default().to_string_lossy();
    let mut layer = Layer::new("program");
    layer.add(&format!("bin/{name}"), 0o755, Source::Path(program.to_owned()));
    Ok(layer)
}

/// DuckDB's signed extensions, where the runner looks for them: in ../lib/extensions from its program.
pub fn extensions(folder: &Path) -> Result<Layer, Problems> {
    let mut layer = Layer::new("extensions");
    let entries =
        fs::read_dir(folder).map_err(|error| problem(folder, &format!("{error}; `make setup` fetches them")))?;
    for entry in entries {
        let entry = entry.map_err(|error| problem(folder, &error))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.ends_with(".duckdb_extension") {
            layer.add(&format!("lib/extensions/{name}"), 0o644, Source::Path(entry.path()));
        }
    }
    if layer.files.is_empty() {
        Err(problem(folder, &"no extension is there; `make setup` fetches them"))
    } else {
        Ok(layer)
    }
}

/// The certificate authorities that Mozilla trusts, not those of this machine: it may trust some that nobody else does.
fn certificates() -> String {
    let mut text = String::new();
    for certificate in webpki_root_certs::TLS_SERVER_ROOT_CERTS {
        let encoded = BASE64_STANDARD.encode(certificate);
        text.push_str("-----BEGIN CERTIFICATE-----\n");
        for line in encoded.as_bytes().chunks(64) {
            let _ = writeln!(text, "{}", String::from_utf8_lossy(line));
        }
        text.push_str("-----END CERTIFICATE-----\n");
    }
    text
}

/// Writes the files of all layers below a new folder.
pub fn write_folder(layers: &[Layer], folder: &Path) -> Result<(), Problems> {
    let _ = fs::remove_dir_all(folder);
    fs::create_dir_all(folder).map_err(|error| problem(folder, &error))?;
    for (path, file) in layers.iter().flat_map(|layer| &layer.files) {
        let target = folder.join(path);
        let written = match &file.source {
            Source::Folder => fs::create_dir_all(&target),
            Source::Bytes(bytes) => fs::write(&target, bytes),
            Source::Path(source) => fs::copy(source, &target).map(drop),
        };
        written
            .and_then(|()| fs::set_permissions(&target, fs::Permissions::from_mode(file.mode)))
            .map_err(|error| problem(&target, &error))?;
    }
    Ok(())
}
