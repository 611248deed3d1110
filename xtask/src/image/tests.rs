use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use serde_json::Value;
use sha2::Digest;

use super::archive::Archive;
use super::{Image, contents};

/// An image of a small program of this machine.
fn image() -> Image {
    let program = Path::new("/bin/true");
    let layers = vec![contents::base(&[program], Path::new("/work")).unwrap(), contents::program(program).unwrap()];
    Image { name: "pintail-runner", description: "A test", environment: &[], layers }
}

fn files(tar: &[u8]) -> BTreeMap<String, (tar::Header, Vec<u8>)> {
    let mut archive = tar::Archive::new(tar);
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        (entry.path().unwrap().display().to_string(), (entry.header().clone(), bytes))
    });
    entries.collect()
}

fn json(files: &BTreeMap<String, (tar::Header, Vec<u8>)>, path: &str) -> Value {
    serde_json::from_slice(&files[path].1).unwrap()
}

fn blob(descriptor: &Value) -> String {
    format!("blobs/{}", descriptor["digest"].as_str().unwrap().replace(':', "/"))
}

#[test]
fn the_same_program_gives_the_same_bytes() {
    let build = || Archive::new(&image(), "").unwrap().bytes().unwrap();
    assert!(build() == build());
}

#[test]
fn every_tool_finds_the_image_by_its_name() {
    let names = |prefix| {
        let archive = Archive::new(&image(), prefix).unwrap();
        let files = files(&archive.bytes().unwrap());
        let annotations = &json(&files, "index.json")["manifests"][0]["annotations"];
        let docker = json(&files, "manifest.json");
        (annotations["io.containerd.image.name"].clone(), docker[0]["RepoTags"][0].clone())
    };
    let version = env!("CARGO_PKG_VERSION");
    let expected =
        |full: &str, short: &str| (Value::from(format!("{full}:{version}")), Value::from(format!("{short}:{version}")));
    assert_eq!(names(""), expected("docker.io/library/pintail-runner", "pintail-runner"));
    assert_eq!(names("team"), expected("docker.io/team/pintail-runner", "team/pintail-runner"));
    let own = "registry.example:5000/team/pintail-runner";
    assert_eq!(names("registry.example:5000/team/"), expected(own, own));
}

#[test]
fn a_layer_is_what_config_and_manifest_say_and_tells_of_no_machine_or_time() {
    let archive = Archive::new(&image(), "").unwrap();
    let files_of_archive = files(&archive.bytes().unwrap());
    let manifest = json(&files_of_archive, &blob(&json(&files_of_archive, "index.json")["manifests"][0]));
    let config = json(&files_of_archive, &blob(&manifest["config"]));
    assert_eq!(config["config"]["User"], "65532:65532");
    let mut paths = Vec::new();
    for (index, layer) in manifest["layers"].as_array().unwrap().iter().enumerate() {
        let (_, compressed) = &files_of_archive[&blob(layer)];
        assert_eq!(layer["size"], compressed.len());
        let mut tar = Vec::new();
        flate2::read::GzDecoder::new(compressed.as_slice()).read_to_end(&mut tar).unwrap();
        let digest: String = sha2::Sha256::digest(&tar).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(config["rootfs"]["diff_ids"][index], format!("sha256:{digest}"));
        for (path, (header, _)) in files(&tar) {
            let fields = (header.mtime().unwrap(), header.uid().unwrap(), header.gid().unwrap());
            assert_eq!(fields, (0, 0, 0), "{path}");
            paths.push(path);
        }
    }
    for expected in ["bin/true", "etc/passwd", "etc/ssl/certs/ca-certificates.crt", "tmp/"] {
        assert!(paths.iter().any(|path| path == expected), "{paths:?}");
    }
    assert!(paths.iter().any(|path| path.contains("libc.so")), "{paths:?}");
    assert!(!paths.iter().any(|path| path.ends_with("/sh")), "{paths:?}");
}
