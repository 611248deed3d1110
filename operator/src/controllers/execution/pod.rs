//! The pod of one attempt. Pure: an order and the installation's settings in, a pod out.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Affinity, Container, EnvVar, PersistentVolumeClaimVolumeSource, Pod, PodSpec, ResourceRequirements, Toleration,
    Volume,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use pintail_api as api;
use pintail_execution::{VOLUMES, label_digest, pod_name};
use pintail_protocol::{Identity, ORDER_OBJECT_VARIABLE, ORDER_VARIABLE, STORE_VARIABLE, WorkOrder};
use sha2::{Digest, Sha256};

use crate::Settings;
use crate::controllers::runner::{
    MANAGED_BY, MANAGED_BY_LABEL, NAME_LABEL, OrderText, SAFE_TO_EVICT, bytes, container_security, millis, mount,
    pod_security, pod_uid, pull_secrets, scratch_mount, scratch_volume, secret_references, secret_variables,
    store_secret, store_variables, variable,
};

/// Name of the container whose end decides.
pub const CONTAINER: &str = "task";
pub const EXECUTION_UID_LABEL: &str = "pintail.dev/execution-uid";
pub const TASK_ANNOTATION: &str = "pintail.dev/task";
pub const ATTEMPT_ANNOTATION: &str = "pintail.dev/attempt";
/// Digest of the identity of the order: who finds the pod knows whether it is the attempt that it wants.
pub const IDENTITY_ANNOTATION: &str = "pintail.dev/work-order-digest";

const DISK_BYTES: u64 = 10 << 30;
const DISK_REQUEST_BYTES: u64 = 64 << 20;
const MEMORY_BYTES: u64 = 1 << 30;
const MEMORY_REQUEST_BYTES: u64 = 256 << 20;
const CPU_REQUEST_MILLIS: u64 = 100;
/// A pod ends by itself this long after its task's timeout, counted from when its node took it: the operator may be away,
/// and images take their time.
const DEADLINE_SLACK_S: i64 = 600;

/// Whose attempt it is.
pub struct Owner<'a> {
    pub execution: &'a str,
    pub uid: &'a str,
}

/// All that a pod is built from.
pub struct PodParts<'a> {
    pub owner: Owner<'a>,
    pub order: &'a WorkOrder,
    pub text: OrderText,
    pub options: &'a api::PodOptions,
    /// Of the task, in seconds.
    pub timeout_s: Option<i64>,
    pub connections: &'a pintail_execution::Connections,
    /// The pinned image of the runner.
    pub image: &'a str,
    pub settings: &'a Settings,
}

/// Digest over who the attempt is: never over the pod's spec, which others may change.
pub fn identity_digest(identity: &Identity) -> String {
    let Identity { execution_uid, task, item, attempt, revision, .. } = identity;
    let item = item.map(|item| item.to_string()).unwrap_or_default();
    let text = [execution_uid.as_str(), task, &item, &attempt.to_string(), revision].join("\n");
    let digest = Sha256::digest(text.as_bytes());
    format!("sha256:{}", digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

/// The name of the pod of an attempt.
pub fn name_of(owner: &Owner, identity: &Identity) -> String {
    pod_name(owner.execution, owner.uid, &identity.task, identity.item, identity.attempt)
}

/// The order as the pod's runner is told it: in a format that it knows, and with the size of the volume that it is to stay
/// within.
pub fn told(order: &WorkOrder, format: u32) -> WorkOrder {
    let mut order = WorkOrder { format, ..order.clone() };
    order.resources.scratch_bytes = Some(scratch_bytes(&order));
    order
}

pub fn build(parts: &PodParts) -> Pod {
    let identity = &parts.order.identity;
    Pod {
        metadata: ObjectMeta {
            name: Some(name_of(&parts.owner, identity)),
            namespace: Some(identity.namespace.clone()),
            labels: Some(labels(parts)),
            annotations: Some(annotations(parts)),
            owner_references: Some(vec![OwnerReference {
                api_version: api::API_VERSION.to_owned(),
                kind: "Execution".to_owned(),
                name: parts.owner.execution.to_owned(),
                uid: parts.owner.uid.to_owned(),
                controller: Some(true),
                block_owner_deletion: Some(false),
            }]),
            ..ObjectMeta::default()
        },
        spec: Some(spec(parts)),
        status: None,
    }
}

/// What a person asked for comes first, so that nothing of it replaces ours.
fn labels(parts: &PodParts) -> BTreeMap<String, String> {
    let mut labels = parts.options.labels.clone();
    let own = [
        (NAME_LABEL, "pintail-task".to_owned()),
        (MANAGED_BY_LABEL, MANAGED_BY.to_owned()),
        (EXECUTION_UID_LABEL, parts.owner.uid.to_owned()),
    ];
    labels.extend(own.map(|(key, value)| (key.to_owned(), value)));
    labels
}

fn annotations(parts: &PodParts) -> BTreeMap<String, String> {
    let identity = &parts.order.identity;
    let mut annotations = BTreeMap::from([(SAFE_TO_EVICT.to_owned(), "false".to_owned())]);
    annotations.extend(parts.options.annotations.clone());
    let own = [
        ("pintail.dev/execution", identity.execution.clone()),
        ("pintail.dev/workflow", identity.workflow.clone()),
        (TASK_ANNOTATION, identity.task.clone()),
        (ATTEMPT_ANNOTATION, identity.attempt.to_string()),
        (IDENTITY_ANNOTATION, identity_digest(identity)),
    ];
    annotations.extend(own.map(|(key, value)| (key.to_owned(), value)));
    annotations
}

fn spec(parts: &PodParts) -> PodSpec {
    let runner = &parts.settings.runner;
    let options = parts.options;
    let claims = claims(parts);
    let account = options.service_account_name.clone().unwrap_or_else(|| runner.service_account.clone());
    PodSpec {
        containers: vec![container(parts, &claims)],
        volumes: Some(volumes(parts, &claims)),
        restart_policy: Some("Never".to_owned()),
        service_account_name: Some(account),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        active_deadline_seconds: parts.timeout_s.map(|timeout_s| timeout_s.saturating_add(DEADLINE_SLACK_S)),
        node_selector: Some(options.node_selector.clone()).filter(|selector| !selector.is_empty()),
        tolerations: Some(options.tolerations.iter().map(toleration).collect::<Vec<_>>()).filter(|all| !all.is_empty()),
        priority_class_name: options.priority_class_name.clone(),
        image_pull_secrets: pull_secrets(parts.settings),
        affinity: None::<Affinity>,
        security_context: Some(pod_security(!claims.is_empty())),
        ..PodSpec::default()
    }
}

fn container(parts: &PodParts, claims: &BTreeMap<&str, bool>) -> Container {
    let runner = &parts.settings.runner;
    let arguments =
        ["--order-from-environment", "--pod-uid", "$(POD_UID)", "--termination-message", "/dev/termination-log"];
    let mounts = claims.iter().map(|(claim, writes)| mount(&volume_name(claim), format!("{VOLUMES}/{claim}"), !writes));
    Container {
        name: CONTAINER.to_owned(),
        image: Some(parts.image.to_owned()),
        image_pull_policy: runner.image_pull_policy.clone(),
        command: Some(vec!["/bin/pintail-runner".to_owned(), "run".to_owned()]),
        args: Some(arguments.map(str::to_owned).to_vec()),
        env: Some(environment(parts)),
        env_from: store_secret(parts.settings),
        resources: Some(resources(&parts.order.resources)),
        security_context: Some(container_security()),
        volume_mounts: Some(std::iter::once(scratch_mount()).chain(mounts).collect()),
        ..Container::default()
    }
}

fn environment(parts: &PodParts) -> Vec<EnvVar> {
    let mut variables = vec![pod_uid()];
    match &parts.text {
        OrderText::Inline(text) => variables.push(variable(ORDER_VARIABLE, text)),
        OrderText::Object(object) => {
            variables.push(variable(ORDER_OBJECT_VARIABLE, object));
            variables.push(variable(STORE_VARIABLE, &parts.settings.store.uri));
        }
    }
    variables.extend(store_variables(parts.settings));
    let used = parts.order.connections.iter().filter_map(|connection| parts.connections.get(&connection.name));
    variables.extend(secret_variables(used.flat_map(|connection| secret_references(&connection.spec))));
    variables
}

/// The volume claims that the attempt's connections lie on, and whether one of them is written.
fn claims<'a>(parts: &PodParts<'a>) -> BTreeMap<&'a str, bool> {
    let mut claims = BTreeMap::new();
    for used in &parts.order.connections {
        let duckdb = parts.connections.get(&used.name).and_then(|connection| connection.spec.duckdb.as_ref());
        if let Some(claim) = duckdb.and_then(|duckdb| duckdb.volume_claim.as_deref()) {
            *claims.entry(claim).or_default() |= used.mode == pintail_protocol::AccessMode::Write;
        }
    }
    claims
}

fn volume_name(claim: &str) -> String {
    format!("claim-{}", label_digest(&[claim]))
}

fn scratch_bytes(order: &WorkOrder) -> u64 {
    order.resources.scratch_bytes.unwrap_or(DISK_BYTES)
}

fn volumes(parts: &PodParts, claims: &BTreeMap<&str, bool>) -> Vec<Volume> {
    let claims = claims.keys().map(|claim| Volume {
        name: volume_name(claim),
        // Read-only is for the mount: two pods of one node may want it differently.
        persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
            claim_name: (*claim).to_owned(),
            read_only: None,
        }),
        ..Volume::default()
    });
    std::iter::once(scratch_volume(scratch_bytes(parts.order))).chain(claims).collect()
}

fn resources(wanted: &pintail_protocol::Resources) -> ResourceRequirements {
    let memory = wanted.memory_bytes;
    let disk = wanted.scratch_bytes;
    let mut limits = BTreeMap::from([
        ("memory".to_owned(), bytes(memory.unwrap_or(MEMORY_BYTES))),
        ("ephemeral-storage".to_owned(), bytes(disk.unwrap_or(DISK_BYTES))),
    ]);
    limits.extend(wanted.cpu_millis.map(|cpu| ("cpu".to_owned(), millis(cpu))));
    let requests = BTreeMap::from([
        ("cpu".to_owned(), millis(wanted.cpu_millis.unwrap_or(CPU_REQUEST_MILLIS))),
        ("memory".to_owned(), bytes(memory.unwrap_or(MEMORY_REQUEST_BYTES))),
        ("ephemeral-storage".to_owned(), bytes(disk.unwrap_or(DISK_REQUEST_BYTES))),
    ]);
    ResourceRequirements { limits: Some(limits), requests: Some(requests), claims: None }
}

fn toleration(given: &api::Toleration) -> Toleration {
    Toleration {
        key: given.key.clone(),
        operator: given.operator.map(|operator| format!("{operator:?}")),
        value: given.value.clone(),
        effect: given.effect.map(|effect| format!("{effect:?}")),
        toleration_seconds: given.toleration_seconds,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jiff::Timestamp;
    use pintail_execution::{Connections, connection_target};
    use pintail_protocol::{AccessMode, Connection, DuckDbWork, FORMAT, Resources, StoreLocation, Work};
    use serde_json::json;

    use super::*;

    fn settings() -> Settings {
        let text = json!({
            "namespace": "pintail-system",
            "store": { "uri": "s3://lake/pintail", "environment": { "AWS_REGION": "eu-west-1", "AWS_X": "a$(B)" },
                       "secretName": "pintail-store" },
            "runner": { "image": "registry.example.com/pintail-runner@sha256:00", "imagePullSecrets": ["pull"],
                        "serviceAccount": "pintail-runner", "podTtlSeconds": 3600 },
        });
        Settings::parse(&text.to_string()).expect("settings")
    }

    fn connections() -> Connections {
        let specs = [
            ("lake", json!({ "duckdb": { "volumeClaim": "warehouse", "path": "lake.duckdb" } })),
            ("keys", json!({ "secrets": { "pepper": { "secretKeyRef": { "name": "hashing", "key": "pepper" } } } })),
        ];
        let connection = |(name, spec): (&str, serde_json::Value)| {
            let spec = serde_json::from_value(spec).expect("a connection");
            (name.to_owned(), Arc::new(api::Connection::new(name, spec)))
        };
        specs.map(connection).into()
    }

    fn order() -> WorkOrder {
        let used = connections();
        let connection = |name: &str, mode| Connection {
            name: name.to_owned(),
            mode,
            target: connection_target(name, &used[name].spec).expect("a target"),
        };
        WorkOrder {
            format: FORMAT,
            identity: Identity {
                namespace: "data".to_owned(),
                execution: "retail-summary-x7k2q".to_owned(),
                execution_uid: "5a4c".to_owned(),
                execution_start: Timestamp::UNIX_EPOCH,
                workflow: "retail-summary".to_owned(),
                revision: "retail-summary-6f9c4d".to_owned(),
                task: "year_trends".to_owned(),
                item: None,
                attempt: 2,
            },
            store: StoreLocation::S3 { bucket: "lake".to_owned(), prefix: "pintail".to_owned() },
            relations: Vec::new(),
            parameters: Vec::new(),
            files: Vec::new(),
            connections: vec![connection("keys", AccessMode::Read), connection("lake", AccessMode::Write)],
            work: Work::DuckDb(DuckDbWork { setup: Vec::new(), queries: Vec::new(), load: None }),
            outputs: Vec::new(),
            resources: Resources { cpu_millis: Some(1500), memory_bytes: Some(1 << 30), scratch_bytes: None },
            reuse_key: String::new(),
            reuse: None,
        }
    }

    fn pod(options: &api::PodOptions, text: OrderText) -> Pod {
        let (order, connections, settings) = (order(), connections(), settings());
        let owner = Owner { execution: "retail-summary-x7k2q", uid: "5a4c" };
        let (order, connections, settings) = (&order, &connections, &settings);
        let image = &settings.runner.image;
        build(&PodParts { owner, order, text, options, timeout_s: Some(600), connections, image, settings })
    }

    #[test]
    fn the_runner_is_told_the_size_of_its_volume() {
        let mut order = order();
        assert_eq!(told(&order, FORMAT).resources.scratch_bytes, Some(DISK_BYTES));
        order.resources.scratch_bytes = Some(5);
        assert_eq!(told(&order, FORMAT), order);
    }

    #[test]
    fn a_pod_is_restricted_and_holds_the_names_of_secrets_only() {
        let pod = pod(&api::PodOptions::default(), OrderText::Inline("b3JkZXI".to_owned()));
        insta::assert_json_snapshot!(pod);
    }

    #[test]
    fn what_a_person_asks_for_replaces_nothing_of_ours() {
        let options = serde_json::from_value(json!({
            "nodeSelector": { "disk": "ssd" },
            "tolerations": [{ "key": "batch", "operator": "Exists", "effect": "NoSchedule" }],
            "serviceAccountName": "reader", "priorityClassName": "low",
            "labels": { "team": "sales", MANAGED_BY_LABEL: "someone" },
            "annotations": { SAFE_TO_EVICT: "true", TASK_ANNOTATION: "other" },
        }))
        .expect("options");
        let pod = pod(&options, OrderText::Object("data/runs/5a4c/_orders/00#blake3:00".to_owned()));
        let spec = pod.spec.as_ref().expect("a spec");
        let container = &spec.containers[0];
        insta::assert_json_snapshot!(json!({
            "labels": pod.metadata.labels, "annotations": pod.metadata.annotations, "nodeSelector": spec.node_selector,
            "tolerations": spec.tolerations, "serviceAccountName": spec.service_account_name,
            "priorityClassName": spec.priority_class_name, "env": container.env,
        }));
    }
}
