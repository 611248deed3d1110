//! Container images without Docker: archives that Docker, containerd, kind and podman load, from the programs in bin/.
//!
//! ```text
//! bin/pintail-runner ─ ldd ─> libraries ─┐
//! certificates, users ───────────────────┼─> layers ─> config, manifest ─> target/images/pintail-runner.tar
//! lib/extensions ────────────────────────┘
//! ```
//!
//! The same programs give the same bytes: names are sorted, and times, owners and compression are fixed.

mod archive;
mod closure;
mod contents;
#[cfg(test)]
mod tests;

use std::fs;
use std::path::{Path, PathBuf};

use crate::{Problems, generate};
use archive::Archive;
use contents::Layer;

/// What an image is made of.
pub struct Image {
    /// Of the image and of its program, such as `pintail-runner`.
    pub name: &'static str,
    pub description: &'static str,
    /// Variables that its program needs, each as `NAME=value`, beside those of every image.
    pub environment: &'static [&'static str],
    /// Those that change seldom first: who has them need not load them again.
    pub layers: Vec<Layer>,
}

/// Where the images go, and what they are called.
#[derive(clap::Args)]
pub struct Options {
    /// What stands before the names, such as `registry.example/team`.
    #[arg(long, default_value = "")]
    prefix: String,
    /// Folder that holds the programs.
    #[arg(long, default_value = "bin")]
    programs: PathBuf,
    /// Folder that takes the archives.
    #[arg(long, default_value = "target/images")]
    output: PathBuf,
    /// Write each image's files as a folder instead: the Dockerfile takes them from there.
    #[arg(long)]
    folders: bool,
}

/// Writes the images of operator and runner.
pub fn run(options: &Options) -> Result<(), Problems> {
    let root = generate::root();
    let (programs, output) = (root.join(&options.programs), root.join(&options.output));
    fs::create_dir_all(&output).map_err(|error| problem(&output, &error))?;
    for image in [operator(&root, &programs)?, runner(&root, &programs)?] {
        if options.folders {
            contents::write_folder(&image.layers, &output.join(image.name))?;
            continue;
        }
        let archive = Archive::new(&image, &options.prefix)?;
        let path = output.join(format!("{}.tar", image.name));
        // Whole or not at all: someone may be loading the old one.
        let new = path.with_extension("tar.new");
        fs::write(&new, archive.bytes()?)
            .and_then(|()| fs::rename(&new, &path))
            .map_err(|error| problem(&path, &error))?;
        println!("{}", archive.reference);
        println!("  digest  {}", archive.digest());
        for (layer, bytes) in archive.layer_bytes() {
            println!("  layer   {layer}: {:.1} MB", bytes as f64 / 1e6);
        }
        println!("  archive {}: {:.1} MB", path.display(), archive.compressed_bytes() as f64 / 1e6);
    }
    Ok(())
}

fn operator(root: &Path, programs: &Path) -> Result<Image, Problems> {
    let program = programs.join("pintail-operator");
    let layers = vec![contents::base(&[&program], root)?, contents::program(&program)?];
    Ok(Image { name: "pintail-operator", description: "The controllers of Pintail", environment: &[], layers })
}

fn runner(root: &Path, programs: &Path) -> Result<Image, Problems> {
    let program = programs.join("pintail-runner");
    let layers = vec![
        contents::base(&[&program], root)?,
        contents::extensions(&root.join("lib/extensions"))?,
        contents::program(&program)?,
    ];
    let description = "Executes one task of a Pintail workflow with DuckDB";
    // Where its pods mount the volume that they may write.
    Ok(Image { name: "pintail-runner", description, environment: &["TMPDIR=/scratch"], layers })
}

fn problem(path: &Path, error: &dyn std::fmt::Display) -> Problems {
    vec![format!("{}: {error}", path.display())]
}
