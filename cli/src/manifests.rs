//! The manifests of a command: read, checked, with every path made absolute.

mod launch;
mod unsaved;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kube::ResourceExt;
use pintail_api as api;
use pintail_execution::{Connections, sql_name};
use pintail_plan::manifest::{Document, Object, parse_manifests, repeated_objects};
use pintail_plan::{FieldPath, Located, Plan, PlannedTest, Problem, Rule, Surroundings, compile_test};
use pintail_protocol::secret_variable;

use crate::diagnostics;
use crate::failure::{Code, CommandFailure};
use crate::local::records::Revision;

pub use launch::understand;
pub use unsaved::{Unsaved, real};

/// One file may not be larger; what manifests hold is text that people write.
const FILE_BYTES: u64 = 4 << 20;

type ConfigMaps = BTreeMap<String, BTreeMap<String, String>>;

/// Everything that a set of files says.
#[derive(Debug, Default)]
pub struct Manifests {
    /// The paths as given, absolute.
    paths: Vec<String>,
    /// Text of each file, by its name as it is printed.
    sources: BTreeMap<String, String>,
    documents: Vec<Document>,
    /// With the position of its document.
    workflows: Vec<(usize, api::Workflow)>,
    executions: Vec<api::Execution>,
    /// With the position of its document.
    launch_plans: Vec<(usize, api::LaunchPlan)>,
    /// With the position of its document.
    tests: Vec<(usize, api::WorkflowTest)>,
    connections: Connections,
    config_maps: ConfigMaps,
    /// Where the texts of ConfigMaps stand, by name and key.
    sql_texts: BTreeMap<(String, String), SqlText>,
    secrets: BTreeMap<String, String>,
    problems: Vec<Located>,
}

/// Where a text of a ConfigMap stands.
#[derive(Debug)]
pub enum SqlText {
    /// A file by its name as it is printed.
    File { name: String, text: String },
    /// The manifest of the ConfigMap.
    Object(Document),
}

/// A workflow to run.
pub struct Job<'a> {
    pub workflow: &'a api::Workflow,
    /// Of an Execution manifest.
    pub name: Option<String>,
    pub inputs: BTreeMap<String, api::Binding>,
}

impl Manifests {
    /// Reads files, and the `*.yaml` and `*.yml` files of folders, not of theirs.
    ///
    /// # Errors
    /// Files that cannot be read. What is wrong in them is in [`Manifests::problems`].
    pub fn read(paths: &[PathBuf]) -> Result<Self, CommandFailure> {
        Self::read_with(paths, &Unsaved::default())
    }

    /// As [`Manifests::read`], with texts in place of those of files.
    ///
    /// # Errors
    /// As [`Manifests::read`].
    pub fn read_with(paths: &[PathBuf], unsaved: &Unsaved) -> Result<Self, CommandFailure> {
        let mut manifests = Self::default();
        let mut files = Vec::new();
        for path in paths {
            let absolute = std::path::absolute(path).unwrap_or_else(|_| path.clone());
            manifests.paths.push(absolute.display().to_string());
            files.extend(files_of(path, unsaved)?);
        }
        let mut seen = BTreeSet::new();
        for file in files {
            if seen.insert(std::fs::canonicalize(&file).unwrap_or_else(|_| file.clone())) {
                manifests.read_file(&file, unsaved)?;
            }
        }
        manifests.take_environment();
        Ok(manifests)
    }

    /// As [`Manifests::read`]; problems are printed on standard error and fail.
    pub fn read_right(paths: &[PathBuf]) -> Result<Self, CommandFailure> {
        let manifests = Self::read(paths)?;
        let problems = manifests.problems();
        if problems.is_empty() {
            return Ok(manifests);
        }
        eprint!("{}", diagnostics::as_text(&problems, &manifests.sources));
        Err(CommandFailure::shown(Code::Failed))
    }

    fn read_file(&mut self, path: &Path, unsaved: &Unsaved) -> Result<(), CommandFailure> {
        let name = path.display().to_string();
        let text = match unsaved.text(path) {
            Some(text) => text.to_owned(),
            None => read_manifest(path, &name)?,
        };
        let parsed = parse_manifests(&name, &text);
        self.problems.extend(parsed.problems);
        let folder =
            std::path::absolute(path).ok().and_then(|path| path.parent().map(Path::to_path_buf)).unwrap_or_default();
        for document in parsed.documents {
            self.take(document, &folder, unsaved)?;
        }
        self.sources.insert(name, text);
        Ok(())
    }

    fn take(&mut self, document: Document, folder: &Path, unsaved: &Unsaved) -> Result<(), CommandFailure> {
        let position = self.documents.len();
        let object = document.object.clone();
        let shown_folder = Path::new(&*document.file).parent().map(Path::to_path_buf).unwrap_or_default();
        self.documents.push(document);
        match object {
            Object::Workflow(mut workflow) => {
                let defaults = workflow.spec.inputs.iter_mut().filter_map(|input| input.default.as_mut());
                defaults.for_each(|default| absolute_uri(default, folder));
                self.workflows.push((position, *workflow));
            }
            Object::Connection(mut connection) => {
                let spec = &mut connection.spec;
                let paths = [
                    spec.folder.as_mut().map(|folder| &mut folder.path),
                    spec.duckdb.as_mut().filter(|duckdb| duckdb.volume_claim.is_none()).map(|duckdb| &mut duckdb.path),
                ];
                for path in paths.into_iter().flatten() {
                    *path = folder.join(&path).display().to_string();
                }
                self.connections.insert(sql_name(&connection.name_any()), Arc::new(*connection));
            }
            Object::Execution(mut execution) => {
                execution.spec.inputs.values_mut().for_each(|binding| absolute_uri(binding, folder));
                self.executions.push(*execution);
            }
            Object::WorkflowTest(mut test) => {
                test.spec.given.inputs.values_mut().for_each(|binding| absolute_uri(binding, folder));
                let files = test.spec.given.tables.values_mut().filter_map(|table| table.uri.as_mut());
                files.for_each(|uri| *uri = folder.join(&*uri).display().to_string());
                self.tests.push((position, *test));
            }
            Object::Secret(secret) => {
                for (key, value) in secret.data {
                    let value = String::from_utf8(value).map_err(|_| {
                        CommandFailure::failed(format!("key {key:?} of Secret {:?} is not UTF-8 text", secret.name))
                    })?;
                    self.secrets.insert(secret_variable(&secret.name, &key), value);
                }
            }
            Object::ConfigMap(config_map) => {
                let document = self.documents.last();
                let text =
                    |key: &String| Some(((config_map.name.clone(), key.clone()), SqlText::Object(document?.clone())));
                self.sql_texts.extend(config_map.data.keys().filter_map(text));
                self.config_maps.insert(config_map.name, config_map.data);
            }
            Object::Kustomization(kustomization) => {
                for generator in kustomization.config_maps {
                    let read = |(key, file): (String, String)| {
                        let text = read_text(&folder.join(&file), unsaved)?;
                        Ok((key, shown_folder.join(file).display().to_string(), text))
                    };
                    let files = generator.files.into_iter().map(read).collect::<Result<Vec<_>, CommandFailure>>()?;
                    self.sql_texts.extend(files.iter().map(|(key, name, text)| {
                        let text = SqlText::File { name: name.clone(), text: text.clone() };
                        ((generator.name.clone(), key.clone()), text)
                    }));
                    let files = files.into_iter().map(|(key, _, text)| (key, text));
                    self.config_maps.insert(generator.name, generator.literals.into_iter().chain(files).collect());
                }
            }
            Object::LaunchPlan(mut plan) => {
                launch::absolute_uris(&mut plan.spec, folder);
                self.launch_plans.push((position, *plan));
            }
            Object::Artifact(_) | Object::Other { .. } => {}
        }
        Ok(())
    }

    /// The environment's value of a secret goes before a manifest's.
    fn take_environment(&mut self) {
        let own = |name: &str| name.starts_with("PINTAIL_SECRET_");
        let variables =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        self.secrets.extend(variables.filter(|(name, _)| own(name)));
    }

    /// All that is wrong, by file and place.
    pub fn problems(&self) -> Vec<Located> {
        let mut problems = self.problems.clone();
        problems.extend(repeated_objects(&self.documents));
        let surroundings = self.surroundings(self.config_maps.clone());
        for (position, workflow) in &self.workflows {
            let found = pintail_plan::compile(workflow, &surroundings).err().unwrap_or_default();
            problems
                .extend(self.documents.get(*position).map(|document| document.locate_all(found)).unwrap_or_default());
        }
        for (document, test) in self.tests() {
            problems.extend(document.locate_all(test.err().unwrap_or_default()));
        }
        problems.extend(self.launch_problems());
        problems.sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
        problems
    }

    fn surroundings(&self, config_maps: ConfigMaps) -> Surroundings {
        Surroundings { connections: self.connections.clone(), config_maps }
    }

    /// The plans of the workflows that have no problem, with their documents.
    pub fn plans<'a>(&'a self) -> Vec<(&'a Document, &'a api::Workflow, Plan)> {
        let surroundings = self.surroundings(self.config_maps.clone());
        let plan = |entry: &'a (usize, api::Workflow)| {
            let (position, workflow) = entry;
            Some((self.documents.get(*position)?, workflow, pintail_plan::compile(workflow, &surroundings).ok()?))
        };
        self.workflows.iter().filter_map(plan).collect()
    }

    /// Whether an input's contract or a database's tables have a column that is called sensitive.
    pub fn has_sensitive_columns(&self) -> bool {
        let is_set = |sensitive: Option<bool>| sensitive.unwrap_or_default();
        let inputs = self.workflows.iter().flat_map(|(_, workflow)| &workflow.spec.inputs);
        let mut of_inputs = inputs.flat_map(|input| input.columns.iter().flatten());
        let tables = self.connections.values().flat_map(|connection| connection.spec.tables.iter().flatten());
        let mut of_tables = tables.flat_map(|table| &table.columns);
        of_inputs.any(|column| is_set(column.sensitive)) || of_tables.any(|column| is_set(column.sensitive))
    }

    /// The tests as they are planned, or with their problems; without those of workflows that have problems themselves.
    pub fn tests(&self) -> Vec<(&Document, Result<PlannedTest, Vec<Problem>>)> {
        let surroundings = self.surroundings(self.config_maps.clone());
        let planned = |(position, test): &(usize, api::WorkflowTest)| {
            let name = &test.spec.workflow_ref.name;
            let found = self.workflow(name).map_err(|failure| {
                let path = FieldPath::root().field("spec").field("workflowRef").field("name");
                vec![Problem::new(Rule::UnknownName, path, failure.message)]
            });
            let planned = match found {
                Ok(workflow) => {
                    let plan = pintail_plan::compile(workflow, &surroundings).ok()?;
                    compile_test(test, workflow, &plan, &surroundings)
                }
                Err(problems) => Err(problems),
            };
            Some((self.documents.get(*position)?, planned))
        };
        self.tests.iter().filter_map(planned).collect()
    }

    pub fn sql_texts(&self) -> &BTreeMap<(String, String), SqlText> {
        &self.sql_texts
    }

    /// The plan of a workflow with these manifests' connections.
    pub fn compile(&self, workflow: &api::Workflow, config_maps: ConfigMaps) -> Result<Plan, CommandFailure> {
        let plan = pintail_plan::compile(workflow, &self.surroundings(config_maps)).map_err(|problems| {
            let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
            CommandFailure::failed(format!("workflow {} has problems:\n{}", workflow.name_any(), lines.join("\n")))
        })?;
        match self.volume_of(&plan) {
            None => Ok(plan),
            Some((connection, claim)) => Err(CommandFailure::usage(format!(
                "connection {connection:?} is a file on volume claim {claim:?}, which only a cluster has; give the \
                 manifests of connections for this machine"
            ))),
        }
    }

    /// A connection of the plan whose file lies on a volume.
    fn volume_of<'a>(&'a self, plan: &'a Plan) -> Option<(&'a str, &'a str)> {
        plan.tasks.iter().flat_map(|task| &task.connections).find_map(|used| {
            let duckdb = self.connections.get(&used.name)?.spec.duckdb.as_ref()?;
            Some((used.name.as_str(), duckdb.volume_claim.as_deref()?))
        })
    }

    /// What is to run, producers of datasets before those that read them: the Execution manifests if there are any,
    /// else each workflow once; only that of `wanted` if it is given.
    pub fn jobs(&self, wanted: Option<&str>) -> Result<Vec<Job<'_>>, CommandFailure> {
        let mut jobs = Vec::new();
        for execution in &self.executions {
            let workflow = self.workflow(&execution.spec.workflow_ref.name)?;
            jobs.push(Job { workflow, name: execution.metadata.name.clone(), inputs: execution.spec.inputs.clone() });
        }
        if jobs.is_empty() {
            let job = |workflow| Job { workflow, name: None, inputs: BTreeMap::new() };
            jobs = self.workflows.iter().map(|(_, workflow)| job(workflow)).collect();
        }
        if let Some(wanted) = wanted {
            self.workflow(wanted)?;
            jobs.retain(|job| job.workflow.name_any() == wanted);
        }
        if jobs.is_empty() {
            return Err(CommandFailure::usage("there is no Workflow in these files"));
        }
        producers_first(jobs)
    }

    /// The workflow of that name.
    pub fn workflow(&self, name: &str) -> Result<&api::Workflow, CommandFailure> {
        let found = self.workflows.iter().find(|(_, workflow)| workflow.name_any() == name);
        found.map(|(_, workflow)| workflow).ok_or_else(|| {
            let names: Vec<String> = self.workflows.iter().map(|(_, workflow)| workflow.name_any()).collect();
            CommandFailure::usage(format!(
                "there is no Workflow {name:?} in these files; there are: {}",
                names.join(", ")
            ))
        })
    }

    /// What a run of the workflow pins.
    pub fn revision(&self, workflow: &api::Workflow) -> Revision {
        let references = workflow.spec.tasks.iter().filter_map(|task| task.duckdb.as_ref()?.query_from.as_ref());
        let names: BTreeSet<&str> = references.map(|from| from.config_map_key_ref.name.as_str()).collect();
        let used = self.config_maps.iter().filter(|(name, _)| names.contains(name.as_str()));
        let config_maps = used.map(|(name, data)| (name.clone(), data.clone())).collect();
        Revision { workflow: workflow.clone(), config_maps }
    }

    pub fn paths(&self) -> &[String] {
        &self.paths
    }

    pub fn documents(&self) -> &[Document] {
        &self.documents
    }

    pub fn sources(&self) -> &BTreeMap<String, String> {
        &self.sources
    }

    /// Whether the same was read of the same files.
    pub fn has_texts_of(&self, other: &Self) -> bool {
        fn files(manifests: &Manifests) -> impl Iterator<Item = (&(String, String), &str)> {
            manifests.sql_texts.iter().filter_map(|(place, text)| match text {
                SqlText::File { text, .. } => Some((place, text.as_str())),
                SqlText::Object(_) => None,
            })
        }
        self.sources == other.sources && files(self).eq(files(other))
    }

    /// The document of a Connection, by its SQL name.
    pub fn connection_document(&self, name: &str) -> Option<&Document> {
        let is_it = |document: &&Document| matches!(&document.object, Object::Connection(connection) if sql_name(&connection.name_any()) == name);
        self.documents.iter().find(is_it)
    }

    pub fn connections(&self) -> &Connections {
        &self.connections
    }

    pub fn config_maps(&self) -> &ConfigMaps {
        &self.config_maps
    }

    pub fn secrets(&self) -> &BTreeMap<String, String> {
        &self.secrets
    }
}

/// Makes the `uri` of a table source absolute, counted from `folder`; URLs stay.
pub fn absolute_uri(binding: &mut api::Binding, folder: &Path) {
    if let Some(serde_json::Value::String(uri)) = binding.0.get_mut("uri")
        && !uri.contains("://")
    {
        *uri = folder.join(&uri).display().to_string();
    }
}

fn files_of(path: &Path, unsaved: &Unsaved) -> Result<Vec<PathBuf>, CommandFailure> {
    let cannot = |error: std::io::Error| CommandFailure::usage(format!("cannot read {}: {error}", path.display()));
    if !std::fs::metadata(path).map_err(cannot)?.is_dir() {
        return Ok(vec![path.to_path_buf()]);
    }
    let mut files: Vec<PathBuf> = unsaved.new_files_in(path).filter(|file| is_manifest(file)).collect();
    for entry in std::fs::read_dir(path).map_err(cannot)? {
        let file = entry.map_err(cannot)?.path();
        if is_manifest(&file) && file.is_file() {
            files.push(file);
        }
    }
    if files.is_empty() {
        return Err(CommandFailure::usage(format!("there is no *.yaml file in {}", path.display())));
    }
    files.sort();
    Ok(files)
}

/// Whether a file of a folder is read.
pub fn is_manifest(file: &Path) -> bool {
    file.extension().is_some_and(|ending| ending == "yaml" || ending == "yml")
}

fn read_manifest(path: &Path, name: &str) -> Result<String, CommandFailure> {
    let cannot = |error: &dyn std::fmt::Display| CommandFailure::usage(format!("cannot read {name}: {error}"));
    let size = std::fs::metadata(path).map_err(|error| cannot(&error))?.len();
    if size > FILE_BYTES {
        return Err(cannot(&format!("it has {size} bytes; a manifest has at most {FILE_BYTES}")));
    }
    let bytes = std::fs::read(path).map_err(|error| cannot(&error))?;
    String::from_utf8(bytes).map_err(|_| cannot(&"it is not UTF-8 text"))
}

fn read_text(path: &Path, unsaved: &Unsaved) -> Result<String, CommandFailure> {
    if let Some(text) = unsaved.text(path) {
        return Ok(text.to_owned());
    }
    std::fs::read_to_string(path)
        .map_err(|error| CommandFailure::usage(format!("cannot read {}: {error}", path.display())))
}

fn published(workflow: &api::Workflow) -> impl Iterator<Item = &str> {
    let outputs = workflow.spec.outputs.as_deref().unwrap_or_default();
    outputs.iter().filter_map(|output| output.publish.as_ref()).map(|publish| publish.artifact.as_str())
}

fn taken(job: &Job<'_>) -> BTreeSet<String> {
    let inputs = job.workflow.spec.inputs.iter();
    let bindings = inputs.filter_map(|input| job.inputs.get(&input.name).or(input.default.as_ref()));
    bindings.filter_map(|binding| binding.0.get("artifact")?.as_str().map(str::to_owned)).collect()
}

/// Orders jobs so that a dataset is published before it is read, else as they stand.
fn producers_first(mut waiting: Vec<Job<'_>>) -> Result<Vec<Job<'_>>, CommandFailure> {
    let mut ordered = Vec::new();
    while !waiting.is_empty() {
        let to_come: BTreeSet<String> =
            waiting.iter().flat_map(|job| published(job.workflow)).map(str::to_owned).collect();
        let own = |job: &Job<'_>| published(job.workflow).map(str::to_owned).collect::<BTreeSet<_>>();
        let free =
            waiting.iter().position(|job| taken(job).intersection(&to_come).all(|dataset| own(job).contains(dataset)));
        let Some(position) = free else {
            let names: Vec<String> = waiting.iter().map(|job| job.workflow.name_any()).collect();
            return Err(CommandFailure::usage(format!(
                "these workflows read each other's datasets in a circle: {}; choose one with --workflow",
                names.join(", ")
            )));
        };
        ordered.push(waiting.remove(position));
    }
    Ok(ordered)
}
