//! The examples of the repository as they are applied to a cluster.
//!
//! The connections are those of `bucket/`. What a cluster lacks is adapted: a database file that stands beside the
//! manifests is on a volume claim here.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use pintail_plan::manifest::{Object, parse_manifests};
use serde_json::{Value, json};

/// One example.
#[derive(Clone, Debug)]
pub struct Example {
    pub name: String,
    /// All that is applied before the runs.
    pub objects: Vec<Value>,
    /// Names of the workflows, in the order in which they are run: one after another.
    pub workflows: Vec<String>,
    /// By task: the columns of its row of values that the manifests read.
    pub values: BTreeMap<String, BTreeSet<String>>,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples")
}

/// All examples.
pub fn examples() -> Vec<Example> {
    let folders = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let mut folders: Vec<PathBuf> = folders.filter(|path| path.join("bucket").is_dir()).collect();
    folders.sort();
    assert!(folders.len() >= 7, "{folders:?}");
    folders.iter().map(|folder| read(folder)).collect()
}

pub fn example(name: &str) -> Example {
    read(&folder().join(name))
}

fn read(folder: &Path) -> Example {
    let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
    let mut example = Example { name, objects: Vec::new(), workflows: Vec::new(), values: BTreeMap::new() };
    for folder in [&folder.join("bucket"), folder] {
        for file in manifests(folder) {
            let text = std::fs::read_to_string(&file).unwrap();
            example.note_values(&text);
            let parsed = parse_manifests(file.file_name().unwrap().to_str().unwrap(), &text);
            assert!(parsed.problems.is_empty(), "{file:?}: {:?}", parsed.problems);
            for document in parsed.documents {
                example.take(document.object, folder);
            }
        }
    }
    example
}

fn manifests(folder: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        files.filter(|path| path.extension().is_some_and(|ending| ending == "yaml")).collect();
    files.sort();
    files
}

impl Example {
    fn take(&mut self, object: Object, folder: &Path) {
        match object {
            Object::Workflow(workflow) => {
                self.workflows.push(workflow.metadata.name.clone().unwrap());
                self.objects.push(serde_json::to_value(workflow).unwrap());
            }
            Object::Connection(connection) => {
                let mut connection = serde_json::to_value(connection).unwrap();
                if let Some(database) = connection["spec"].get_mut("duckdb") {
                    let file = database["path"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
                    database["path"] = json!(file);
                    database["volumeClaim"] = json!("databases");
                    self.objects.push(claim("databases"));
                }
                self.objects.push(connection);
            }
            Object::Secret(secret) => self.objects.push(json!({
                "apiVersion": "v1", "kind": "Secret", "metadata": { "name": secret.name },
            })),
            Object::ConfigMap(map) => self.objects.push(config_map(&map.name, &map.data)),
            Object::Kustomization(kustomization) => {
                for generator in kustomization.config_maps {
                    let read =
                        |(key, file): (String, String)| (key, std::fs::read_to_string(folder.join(file)).unwrap());
                    let data = generator.literals.into_iter().chain(generator.files.into_iter().map(read));
                    self.objects.push(config_map(&generator.name, &data.collect()));
                }
            }
            Object::LaunchPlan(_) | Object::Execution(_) | Object::Artifact(_) | Object::Other { .. } => {}
        }
    }

    /// A row of values has the columns that expressions read of it.
    fn note_values(&mut self, text: &str) {
        for reference in text.split("tasks.").skip(1) {
            let word = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
            let mut parts = reference.split('.');
            let (Some(task), Some(rest)) = (parts.next(), parts.next()) else { continue };
            let column = rest.split(word).next().unwrap_or_default();
            if !task.contains(word) && !column.is_empty() {
                self.values.entry(task.to_owned()).or_default().insert(column.to_owned());
            }
        }
    }
}

fn claim(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": { "name": name },
        "spec": { "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } } },
        "status": { "phase": "Bound" },
    })
}

fn config_map(name: &str, data: &BTreeMap<String, String>) -> Value {
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name }, "data": data })
}
