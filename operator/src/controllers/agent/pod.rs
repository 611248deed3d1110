//! The pod of an agent, and the Service in front of it. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, ContainerPort, EnvVar, HTTPGetAction, Pod, PodSpec, Probe, ProjectedVolumeSource, ResourceRequirements,
    Service, ServiceAccountTokenProjection, ServicePort, ServiceSpec, Toleration, Volume, VolumeProjection,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;
use pintail_api as api;
use pintail_execution::label_digest;
use pintail_protocol::{
    AGENT_AUDIENCE, AGENT_OBJECT_VARIABLE, AGENT_PORT, AGENT_TOKEN_PATH, AGENT_VARIABLE, ORDER_VARIABLE_BYTES,
    STORE_VARIABLE, encode_agent,
};
use pintail_storage::{StoreError, digest, layout};

use super::order::Wanted;
use crate::Settings;
use crate::controllers::runner::{
    MANAGED_BY, MANAGED_BY_LABEL, NAME_LABEL, OrderText, SAFE_TO_EVICT, bytes, container_security, millis, mount,
    pod_security, pod_uid, pull_secrets, scratch_mount, scratch_volume, secret_variables, store_secret,
    store_variables, variable,
};

/// Value of the label `app.kubernetes.io/name` of every agent, and the name of the Service.
pub const NAME: &str = "pintail-agent";
/// The one container.
pub const CONTAINER: &str = "agent";
/// [`Wanted::since`] of the order.
const SINCE_ANNOTATION: &str = "pintail.dev/triggers-since";
/// The object of the store that holds the order, where there is one.
pub const ORDER_ANNOTATION: &str = "pintail.dev/order";

const TOKEN_VOLUME: &str = "token";
/// The kubelet renews it long before; a stolen one is soon worth nothing.
const TOKEN_SECONDS: i64 = 3600;
const SCRATCH_BYTES: u64 = 64 << 20;
const CPU_REQUEST_MILLIS: u64 = 10;
const MEMORY_REQUEST_BYTES: u64 = 64 << 20;
/// Listings of a hundred thousand objects, a few at once, and 128 bodies of a mebibyte.
const MEMORY_BYTES: u64 = 512 << 20;
/// A node that is gone is given up after this, and not after Kubernetes' five minutes: two agents do no harm.
const NODE_GONE_S: i64 = 30;

/// Why there is no pod for an order.
#[derive(Debug, thiserror::Error)]
pub enum NoPod {
    #[error("{0}")]
    TooLarge(String),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The order as its pod gets it, and the text where that is an object of the store.
pub fn order_text(wanted: &Wanted) -> Result<(OrderText, Option<String>), NoPod> {
    let text = encode_agent(&wanted.order).map_err(|error| NoPod::TooLarge(error.to_string()))?;
    if text.len() <= ORDER_VARIABLE_BYTES {
        return Ok((OrderText::Inline(text), None));
    }
    let digest = digest(text.as_bytes());
    let key = layout::agent_order(&wanted.order.namespace, &digest)?;
    Ok((OrderText::Object(format!("{key}#{digest}")), Some(text)))
}

/// The pod, named by a digest of what it is.
pub fn build(wanted: &Wanted, text: &OrderText, settings: &Settings) -> Pod {
    let spec = spec(wanted, text, settings);
    let content = serde_json::to_string(&spec).unwrap_or_default();
    let since = wanted.since.to_string();
    let mut annotations = BTreeMap::from([
        (SINCE_ANNOTATION.to_owned(), since.clone()),
        // It is made again elsewhere. One without a controller of Kubernetes' own would keep its node.
        (SAFE_TO_EVICT.to_owned(), "true".to_owned()),
    ]);
    if let OrderText::Object(object) = text {
        annotations.insert(ORDER_ANNOTATION.to_owned(), object.clone());
    }
    let (owner, uid) = &wanted.owner;
    Pod {
        metadata: ObjectMeta {
            name: Some(format!("{NAME}-{}", label_digest(&[&content, &since]))),
            namespace: Some(wanted.order.namespace.clone()),
            labels: Some(labels()),
            annotations: Some(annotations),
            // `kubectl drain` evicts only pods that someone makes again; nothing is left when the plans are gone.
            owner_references: Some(vec![OwnerReference {
                api_version: api::API_VERSION.to_owned(),
                kind: "LaunchPlan".to_owned(),
                name: owner.clone(),
                uid: uid.clone(),
                controller: Some(true),
                block_owner_deletion: Some(false),
            }]),
            ..ObjectMeta::default()
        },
        spec: Some(spec),
        status: None,
    }
}

/// Up to when the pod knows of changed triggers; none of a pod that is no agent of ours.
pub fn knows_until(pod: &Pod) -> Option<Timestamp> {
    if !is_agent(pod) {
        return None;
    }
    pod.annotations().get(SINCE_ANNOTATION)?.parse().ok()
}

pub fn is_agent(pod: &Pod) -> bool {
    labels().iter().all(|(name, value)| pod.labels().get(name) == Some(value))
}

/// The Service that takes events in every namespace that has triggers for them.
pub fn service(namespace: &str) -> Service {
    Service {
        metadata: ObjectMeta {
            name: Some(NAME.to_owned()),
            namespace: Some(namespace.to_owned()),
            labels: Some(labels()),
            ..ObjectMeta::default()
        },
        spec: Some(ServiceSpec {
            selector: Some(labels()),
            ports: Some(vec![ServicePort {
                name: Some("http".to_owned()),
                port: 80,
                target_port: Some(IntOrString::Int(i32::from(AGENT_PORT))),
                ..ServicePort::default()
            }]),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

/// Selects what [`labels`] are on.
pub fn selector() -> String {
    labels().iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(",")
}

fn labels() -> BTreeMap<String, String> {
    let labels = [(NAME_LABEL, NAME), (MANAGED_BY_LABEL, MANAGED_BY)];
    labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

fn spec(wanted: &Wanted, text: &OrderText, settings: &Settings) -> PodSpec {
    PodSpec {
        containers: vec![container(wanted, text, settings)],
        volumes: Some(vec![scratch_volume(SCRATCH_BYTES), token()]),
        restart_policy: Some("Always".to_owned()),
        service_account_name: Some(settings.runner.service_account.clone()),
        // It speaks to the operator alone, by a token that the API server does not take.
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        image_pull_secrets: pull_secrets(settings),
        security_context: Some(pod_security(true)),
        tolerations: Some(["not-ready", "unreachable"].map(toleration).into()),
        ..PodSpec::default()
    }
}

fn toleration(node: &str) -> Toleration {
    Toleration {
        key: Some(format!("node.kubernetes.io/{node}")),
        operator: Some("Exists".to_owned()),
        effect: Some("NoExecute".to_owned()),
        toleration_seconds: Some(NODE_GONE_S),
        value: None,
    }
}

fn container(wanted: &Wanted, text: &OrderText, settings: &Settings) -> Container {
    let (token_folder, _) = AGENT_TOKEN_PATH.rsplit_once('/').unwrap_or_default();
    let amounts = |amounts: [(&str, _); 2]| Some(amounts.map(|(name, amount)| (name.to_owned(), amount)).into());
    Container {
        name: CONTAINER.to_owned(),
        image: Some(settings.runner.image.clone()),
        image_pull_policy: settings.runner.image_pull_policy.clone(),
        command: Some(vec!["/bin/pintail-runner".to_owned(), "agent".to_owned()]),
        env: Some(environment(wanted, text, settings)),
        env_from: store_secret(settings),
        ports: Some(vec![ContainerPort {
            name: Some("http".to_owned()),
            container_port: i32::from(AGENT_PORT),
            ..ContainerPort::default()
        }]),
        liveness_probe: Some(probe(10)),
        readiness_probe: Some(probe(2)),
        resources: Some(ResourceRequirements {
            requests: amounts([("cpu", millis(CPU_REQUEST_MILLIS)), ("memory", bytes(MEMORY_REQUEST_BYTES))]),
            limits: amounts([("memory", bytes(MEMORY_BYTES)), ("ephemeral-storage", bytes(2 * SCRATCH_BYTES))]),
            claims: None,
        }),
        security_context: Some(container_security()),
        // An error at start is the last line of the log.
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        volume_mounts: Some(vec![scratch_mount(), mount(TOKEN_VOLUME, token_folder.to_owned(), true)]),
        ..Container::default()
    }
}

fn environment(wanted: &Wanted, text: &OrderText, settings: &Settings) -> Vec<EnvVar> {
    let mut variables = vec![pod_uid()];
    match text {
        OrderText::Inline(text) => variables.push(variable(AGENT_VARIABLE, text)),
        OrderText::Object(object) => {
            variables.push(variable(AGENT_OBJECT_VARIABLE, object));
            variables.push(variable(STORE_VARIABLE, &settings.store.uri));
        }
    }
    variables.extend(store_variables(settings));
    variables.extend(secret_variables(wanted.secrets.iter()));
    variables
}

fn probe(period_s: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some("/healthz".to_owned()),
            port: IntOrString::Int(i32::from(AGENT_PORT)),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period_s),
        ..Probe::default()
    }
}

fn token() -> Volume {
    let (_, file) = AGENT_TOKEN_PATH.rsplit_once('/').unwrap_or_default();
    let token = ServiceAccountTokenProjection {
        audience: Some(AGENT_AUDIENCE.to_owned()),
        expiration_seconds: Some(TOKEN_SECONDS),
        path: file.to_owned(),
    };
    Volume {
        name: TOKEN_VOLUME.to_owned(),
        projected: Some(ProjectedVolumeSource {
            sources: Some(vec![VolumeProjection { service_account_token: Some(token), ..VolumeProjection::default() }]),
            default_mode: None,
        }),
        ..Volume::default()
    }
}
