//! Runs on a cluster, through its API and with the rights of whoever asks.

pub mod data;
pub mod doctor;
pub mod failure;
pub mod follow;
pub mod logs;
pub mod reader;
pub mod start;

use std::fmt::Debug;
use std::path::Path;
use std::time::Duration;

use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::core::{DeserializeGuard, NamespaceResourceScope};
use kube::{Api, Client, Config, Resource, ResourceExt};
use pintail_api as api;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::arguments::ClusterArguments;
use crate::cluster::failure::{Asked, Location};
use crate::failure::CommandFailure;
use crate::place::{LATEST, did_you_mean, newest_first, unknown_run};

/// A server that takes longer to accept a connection is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A server that takes longer to answer is as good as not there. Watches and logs have no such limit.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Objects of one answer; what kubectl asks for too.
const PAGE: u32 = 500;

impl ClusterArguments {
    /// Whether any of them is given, and the cluster is meant.
    pub fn any(&self) -> bool {
        self.cluster || self.context.is_some() || self.namespace.is_some() || self.kubeconfig.is_some()
    }
}

/// One namespace of a cluster, and how it is reached.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    location: Location,
    flags: String,
}

impl Cluster {
    /// Reads the kubeconfig; nothing is asked of the cluster yet.
    ///
    /// # Errors
    /// Where there is no kubeconfig, or no such context in it.
    pub async fn connect(arguments: &ClusterArguments) -> Result<Self, CommandFailure> {
        let (context, mut config) = match read_kubeconfig(arguments.kubeconfig.as_deref())? {
            Some(kubeconfig) => {
                let context = chosen_context(&kubeconfig, arguments.context.as_deref())?;
                let options = KubeConfigOptions { context: Some(context.clone()), ..KubeConfigOptions::default() };
                let config = Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(|error| {
                    CommandFailure::usage(format!("context {context:?} of the kubeconfig cannot be used: {error}"))
                })?;
                (Some(context), config)
            }
            None => (None, in_cluster(arguments)?),
        };
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        let location = Location {
            namespace: arguments.namespace.clone().unwrap_or_else(|| config.default_namespace.clone()),
            server: config.cluster_url.to_string().trim_end_matches('/').to_owned(),
            context,
        };
        let flags = flags(&location, arguments.kubeconfig.as_deref());
        let client = Client::try_from(config)
            .map_err(|error| CommandFailure::failed(format!("cannot talk to {}: {error}", location.server)))?;
        Ok(Self { client, location, flags })
    }

    /// What a command needs to work here too, with a space before it.
    pub fn flags(&self) -> &str {
        &self.flags
    }

    /// Where it is.
    pub fn location(&self) -> &Location {
        &self.location
    }

    pub fn namespace(&self) -> &str {
        &self.location.namespace
    }

    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// The objects of a kind in this namespace.
    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), self.namespace())
    }

    /// Waits for an answer, and says what was asked where it is a refusal.
    pub async fn ask<T>(
        &self,
        asked: Asked<'_>,
        answer: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, CommandFailure> {
        match tokio::time::timeout(ANSWER_TIMEOUT, answer).await {
            Ok(answer) => answer.map_err(|error| self.location.explain(&asked, &error)),
            Err(_) => Err(self.location.unreachable(&format!("no answer within {} s", ANSWER_TIMEOUT.as_secs()))),
        }
    }

    /// Every object of a kind. One that cannot be read is left out, with a line on standard error.
    pub async fn list<K>(&self) -> Result<Vec<K>, CommandFailure>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
    {
        let api: Api<DeserializeGuard<K>> = Api::namespaced(self.client.clone(), self.namespace());
        let mut parameters = ListParams::default().limit(PAGE);
        let mut objects = Vec::new();
        loop {
            let page = self.ask(Asked::of::<K>("list", None), api.list(&parameters)).await?;
            for guarded in page.items {
                match guarded.0 {
                    Ok(object) => objects.push(without_managed_fields(object)),
                    Err(invalid) => {
                        let name = invalid.metadata.name.as_deref().unwrap_or_default();
                        eprintln!("warning: left out: {} {name}: {}", K::plural(&()), invalid.error);
                    }
                }
            }
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => parameters = parameters.continue_token(&token),
                None => return Ok(objects),
            }
        }
    }

    /// The object of that name, if there is one.
    pub async fn find<K>(&self, name: &str) -> Result<Option<K>, CommandFailure>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
    {
        let may_be_a_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
        if name.is_empty() || !name.chars().all(may_be_a_name) {
            return Ok(None);
        }
        let asked = Asked::of::<K>("get", Some(name));
        let api = self.api::<K>();
        let answer = async {
            match api.get(name).await {
                Err(error) if failure::is_missing(&error) => Ok(None),
                answer => answer.map(Some),
            }
        };
        Ok(self.ask(asked, answer).await?.map(without_managed_fields))
    }

    /// Creates an object, or only has it checked.
    pub async fn create<K>(&self, object: &K, dry_run: bool) -> Result<K, CommandFailure>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug + Serialize,
    {
        let parameters = PostParams { dry_run, ..PostParams::default() };
        let name = object.meta().name.clone();
        let created =
            self.ask(Asked::of::<K>("create", name.as_deref()), self.api().create(&parameters, object)).await?;
        Ok(without_managed_fields(created))
    }

    /// Every Execution, newest first.
    pub async fn executions(&self) -> Result<Vec<api::Execution>, CommandFailure> {
        let mut executions = self.list().await?;
        newest_first(&mut executions);
        Ok(executions)
    }

    /// Every published version, newest first.
    pub async fn artifacts(&self) -> Result<Vec<api::Artifact>, CommandFailure> {
        let mut artifacts: Vec<api::Artifact> = self.list().await?;
        artifacts.sort_by_key(|artifact| std::cmp::Reverse(artifact.spec.created_at.clone()));
        Ok(artifacts)
    }

    /// The Execution of that name; [`LATEST`] is the newest.
    pub async fn execution(&self, name: &str) -> Result<api::Execution, CommandFailure> {
        if name == LATEST {
            let newest = self.executions().await?.into_iter().next();
            return newest
                .ok_or_else(|| CommandFailure::failed(format!("there is no run {} yet", self.location.within())));
        }
        match self.find(name).await? {
            Some(execution) => Ok(execution),
            None => Err(unknown_run(name, &self.executions().await.unwrap_or_default(), &self.location.within())),
        }
    }

    /// The Workflow of that name.
    pub async fn workflow(&self, name: &str) -> Result<api::Workflow, CommandFailure> {
        if let Some(workflow) = self.find(name).await? {
            return Ok(workflow);
        }
        let known: Vec<api::Workflow> = self.list().await.unwrap_or_default();
        let hint = did_you_mean(name, known.iter().map(ResourceExt::name_any));
        let within = self.location.within();
        Err(CommandFailure::failed(format!("there is no Workflow {name:?} {within}{hint}")))
    }

    /// The LaunchPlan of that name.
    pub async fn launch_plan(&self, name: &str) -> Result<api::LaunchPlan, CommandFailure> {
        if let Some(plan) = self.find(name).await? {
            return Ok(plan);
        }
        let known: Vec<api::LaunchPlan> = self.list().await.unwrap_or_default();
        let hint = did_you_mean(name, known.iter().map(ResourceExt::name_any));
        let within = self.location.within();
        Err(CommandFailure::failed(format!("there is no LaunchPlan {name:?} {within}{hint}")))
    }

    /// Asks for an end of the run.
    pub async fn cancel(&self, name: &str) -> Result<(), CommandFailure> {
        let patch = Patch::Merge(serde_json::json!({ "spec": { "cancel": true } }));
        let api = self.api::<api::Execution>();
        let asked = Asked::of::<api::Execution>("patch", Some(name));
        // The answer may hold what only a newer build can read.
        self.ask(asked, async { api.patch_metadata(name, &PatchParams::default(), &patch).await.map(drop) }).await
    }
}

/// Whoever wants to know which program wrote which field asks kubectl.
fn without_managed_fields<K: Resource>(mut object: K) -> K {
    object.meta_mut().managed_fields = None;
    object
}

/// The kubeconfig; none in a pod, where it is the ServiceAccount that counts.
fn read_kubeconfig(path: Option<&Path>) -> Result<Option<Kubeconfig>, CommandFailure> {
    let read = match path {
        Some(path) => Kubeconfig::read_from(path),
        None => Kubeconfig::read(),
    };
    let no_file = |error: &KubeconfigError| match error {
        KubeconfigError::ReadConfig(cause, _) => cause.kind() == std::io::ErrorKind::NotFound,
        KubeconfigError::FindPath => true,
        _ => false,
    };
    match read {
        Ok(kubeconfig) => Ok(Some(kubeconfig)),
        Err(error) if path.is_none() && no_file(&error) => Ok(None),
        Err(error) => Err(CommandFailure::usage(error)),
    }
}

fn in_cluster(arguments: &ClusterArguments) -> Result<Config, CommandFailure> {
    if let Some(context) = &arguments.context {
        return Err(CommandFailure::usage(format!("there is no kubeconfig to find context {context:?} in")));
    }
    Config::incluster().map_err(|_| {
        CommandFailure::usage(
            "there is no kubeconfig: give one by --kubeconfig or KUBECONFIG, or put it at ~/.kube/config",
        )
    })
}

fn chosen_context(kubeconfig: &Kubeconfig, wanted: Option<&str>) -> Result<String, CommandFailure> {
    let names = || kubeconfig.contexts.iter().map(|context| context.name.clone());
    let listed = || names().collect::<Vec<_>>().join(", ");
    let Some(wanted) = wanted.or(kubeconfig.current_context.as_deref()).filter(|name| !name.is_empty()) else {
        return Err(CommandFailure::usage(format!(
            "the kubeconfig has no current context: choose one with --context; there are: {}",
            listed()
        )));
    };
    if names().any(|name| name == wanted) {
        return Ok(wanted.to_owned());
    }
    let hint = did_you_mean(wanted, names());
    Err(CommandFailure::usage(format!("the kubeconfig has no context {wanted:?}{hint}; there are: {}", listed())))
}

fn flags(location: &Location, kubeconfig: Option<&Path>) -> String {
    let mut flags = match &location.context {
        Some(context) => format!(" --context {context}"),
        None => " --cluster".to_owned(),
    };
    if let Some(path) = kubeconfig {
        flags += &format!(" --kubeconfig {}", path.display());
    }
    flags + &format!(" -n {}", location.namespace)
}
