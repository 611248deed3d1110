//! Whether a cluster is ready for Pintail, as far as whoever asks may see.

use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec, SubjectAccessReviewStatus,
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ListParams, PostParams};
use kube::{Api, ResourceExt};
use pintail_api as api;
use pintail_protocol::Read;
use serde::Serialize;

use crate::arguments::{Doctor, DoctorOutput};
use crate::cluster::Cluster;
use crate::cluster::failure::Asked;
use crate::cluster::reader::Reader;
use crate::failure::{Code, CommandFailure};
use crate::output::{print_json, print_text};

/// The oldest Kubernetes that is supported, 1.x.
const OLDEST_MINOR: u32 = 34;
/// What a chart's Deployment is found by.
const OPERATOR: &str = "app.kubernetes.io/name=pintail";

/// What commands need, and which: resource, verbs, commands.
const RIGHTS: [(&str, &[&str], &str); 6] = [
    ("executions.pintail.dev", &["get", "list", "watch"], "list, get, watch, logs"),
    ("executions.pintail.dev", &["create", "patch"], "run, retry, cancel"),
    ("workflows.pintail.dev", &["get", "list"], "run"),
    ("artifacts.pintail.dev", &["get", "list"], "list, get, preview"),
    ("pods", &["get", "list", "watch", "create", "delete"], "logs, preview"),
    ("pods/log", &["get"], "logs, preview"),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
enum Result {
    Good,
    Bad,
    /// Could not be found out.
    Skipped,
}

#[derive(Debug, Serialize)]
struct Finding {
    check: &'static str,
    result: Result,
    message: String,
}

impl Finding {
    fn new(check: &'static str, result: Result, message: impl Into<String>) -> Self {
        Self { check, result, message: message.into() }
    }
}

/// `pintail doctor`.
pub async fn doctor(arguments: Doctor) -> std::result::Result<(), CommandFailure> {
    let cluster = Cluster::connect(&arguments.cluster).await?;
    let mut findings = vec![kubernetes(&cluster).await?];
    findings.push(resources(&cluster).await?);
    findings.push(definitions(&cluster).await);
    findings.push(operator(&cluster).await);
    for (resource, verbs, commands) in RIGHTS {
        findings.push(rights(&cluster, resource, verbs, commands).await?);
    }
    findings.push(store(&cluster).await?);
    match arguments.output {
        DoctorOutput::Pretty => findings.iter().for_each(|finding| {
            let Finding { check, result, message } = finding;
            print_text(&format!("{:8} {check:11} {message}\n", format!("{result:?}").to_lowercase()));
        }),
        DoctorOutput::Json => print_json(&serde_json::json!({ "version": 1, "checks": findings }))?,
    }
    let bad = findings.iter().any(|finding| finding.result == Result::Bad);
    if bad { Err(CommandFailure::shown(Code::Failed)) } else { Ok(()) }
}

async fn kubernetes(cluster: &Cluster) -> std::result::Result<Finding, CommandFailure> {
    let asked = Asked { verb: "get", resource: "the version", name: None };
    let version = cluster.ask(asked, cluster.client().apiserver_version()).await?;
    let minor: String = version.minor.chars().take_while(char::is_ascii_digit).collect();
    let result = if minor.parse::<u32>().unwrap_or(0) >= OLDEST_MINOR { Result::Good } else { Result::Bad };
    let needs = if result == Result::Bad {
        format!("; 1.{OLDEST_MINOR} is the oldest that is supported")
    } else {
        String::new()
    };
    let message = format!("{} at {}{needs}", version.git_version, cluster.location().server);
    Ok(Finding::new("kubernetes", result, message))
}

/// Whether every kind is served. Anybody may ask that.
async fn resources(cluster: &Cluster) -> std::result::Result<Finding, CommandFailure> {
    const CHECK: &str = "resources";
    let wanted: BTreeSet<String> =
        api::definitions().iter().map(|definition| definition.spec.names.plural.clone()).collect();
    let client = cluster.client();
    let served = client.list_api_group_resources(api::API_VERSION);
    let asked = Asked { verb: "list", resource: "resources of pintail.dev", name: None };
    let served: BTreeSet<String> = match cluster.ask(asked, served).await {
        Ok(list) => list.resources.into_iter().map(|resource| resource.name).collect(),
        Err(failure) if failure.code == Code::Unreachable => return Err(failure),
        Err(_) => BTreeSet::new(),
    };
    let missing: Vec<&str> = wanted.difference(&served).map(String::as_str).collect();
    Ok(match missing.as_slice() {
        [] => Finding::new(CHECK, Result::Good, format!("{} serves every kind", api::API_VERSION)),
        missing => {
            let message = format!("{} is not served: install or upgrade the chart", missing.join(", "));
            Finding::new(CHECK, Result::Bad, message)
        }
    })
}

/// Whether the definitions are those that this program was built with.
async fn definitions(cluster: &Cluster) -> Finding {
    const CHECK: &str = "versions";
    let definitions: Api<CustomResourceDefinition> = Api::all(cluster.client());
    let asked = Asked { verb: "list", resource: "customresourcedefinitions.apiextensions.k8s.io", name: None };
    let found = match cluster.ask(asked, definitions.list(&ListParams::default())).await {
        Ok(list) => list.items,
        Err(failure) => return Finding::new(CHECK, Result::Skipped, failure.message),
    };
    // Generated definitions describe the kind in other words than the types do.
    let schema = |definition: &CustomResourceDefinition| {
        let schema = definition.spec.versions.first().and_then(|version| version.schema.clone());
        let properties = schema.and_then(|schema| schema.open_api_v3_schema).map(|schema| schema.properties);
        serde_json::to_value(properties).unwrap_or_default()
    };
    let differs = |own: &CustomResourceDefinition| {
        found
            .iter()
            .find(|theirs| theirs.name_any() == own.name_any())
            .is_some_and(|theirs| schema(theirs) != schema(own))
    };
    let different: Vec<String> =
        api::definitions().iter().filter(|own| differs(own)).map(ResourceExt::name_any).collect();
    let version = env!("CARGO_PKG_VERSION");
    match different.as_slice() {
        [] => Finding::new(CHECK, Result::Good, format!("no definition differs from those of this program, {version}")),
        different => {
            let message = format!(
                "{} has another version than this program, {version}: upgrade the chart, or use the program of its version",
                different.join(", ")
            );
            Finding::new(CHECK, Result::Bad, message)
        }
    }
}

/// An operator is available once it has its store.
async fn operator(cluster: &Cluster) -> Finding {
    const CHECK: &str = "operator";
    let deployments: Api<Deployment> = Api::all(cluster.client());
    let asked = Asked { verb: "list", resource: "deployments.apps of all namespaces", name: None };
    let found = match cluster.ask(asked, deployments.list(&ListParams::default().labels(OPERATOR))).await {
        Ok(list) => list.items,
        Err(failure) => return Finding::new(CHECK, Result::Skipped, failure.message),
    };
    let Some(deployment) = found.first() else {
        return Finding::new(CHECK, Result::Bad, format!("no Deployment has the label {OPERATOR}: install the chart"));
    };
    let name = format!("{}/{}", deployment.namespace().unwrap_or_default(), deployment.name_any());
    let available = deployment.status.as_ref().and_then(|status| status.available_replicas).unwrap_or(0);
    if available > 0 {
        return Finding::new(CHECK, Result::Good, format!("{name} is ready, and its store with it"));
    }
    let message = format!(
        "{name} is not ready: look at `kubectl -n {} get pods` and their logs",
        deployment.namespace().unwrap_or_default()
    );
    Finding::new(CHECK, Result::Bad, message)
}

async fn rights(
    cluster: &Cluster,
    resource: &str,
    verbs: &[&str],
    commands: &str,
) -> std::result::Result<Finding, CommandFailure> {
    let mut missing = Vec::new();
    for verb in verbs {
        if !may(cluster, verb, resource).await? {
            missing.push(*verb);
        }
    }
    let within = cluster.location().within();
    Ok(if missing.is_empty() {
        Finding::new("rights", Result::Good, format!("{} {resource} {within} ({commands})", verbs.join(", ")))
    } else {
        let message = format!("not allowed to {} {resource} {within}: needed for {commands}", missing.join(", "));
        Finding::new("rights", Result::Bad, message)
    })
}

async fn may(cluster: &Cluster, verb: &str, resource: &str) -> std::result::Result<bool, CommandFailure> {
    let (resource, group) = resource.split_once('.').unwrap_or((resource, ""));
    let (resource, subresource) = resource.split_once('/').map_or((resource, None), |(one, two)| (one, Some(two)));
    let attributes = ResourceAttributes {
        namespace: Some(cluster.namespace().to_owned()),
        verb: Some(verb.to_owned()),
        group: Some(group.to_owned()),
        resource: Some(resource.to_owned()),
        subresource: subresource.map(str::to_owned),
        ..ResourceAttributes::default()
    };
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), non_resource_attributes: None },
        ..SelfSubjectAccessReview::default()
    };
    let reviews: Api<SelfSubjectAccessReview> = Api::all(cluster.client());
    let asked = Asked { verb: "create", resource: "selfsubjectaccessreviews.authorization.k8s.io", name: None };
    let review = cluster.ask(asked, reviews.create(&PostParams::default(), &review)).await?;
    Ok(review.status.is_some_and(|status: SubjectAccessReviewStatus| status.allowed))
}

/// By a pod of the runner image, where some run tells which it is.
async fn store(cluster: &Cluster) -> std::result::Result<Finding, CommandFailure> {
    const CHECK: &str = "store";
    let reader = match Reader::find(cluster, None).await {
        Ok(reader) => reader,
        Err(failure) => return Ok(Finding::new(CHECK, Result::Skipped, failure.message)),
    };
    let folder = format!("{}/doctor/{}", cluster.namespace(), uuid::Uuid::new_v4().simple());
    match reader.ask(Read::StoreCheck { folder }).await {
        Ok(_) => {
            let message =
                format!("a pod of {} writes {}, and cannot create an object twice", reader.image(), reader.store());
            Ok(Finding::new(CHECK, Result::Good, message))
        }
        Err(failure) if failure.code == Code::Interrupted => Err(failure),
        Err(failure) => Ok(Finding::new(CHECK, Result::Bad, failure.message)),
    }
}
