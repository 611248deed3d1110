//! Every value of the chart, with what it is if nobody sets it. `values.yaml`, its schema and the page
//! docs/reference/chart-values.md are made from this.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

/// Part of a Kubernetes object, handed through as it is written.
type Object = Map<String, Value>;
type Texts = BTreeMap<String, String>;

/// Values of the chart `pintail`.
#[derive(Default, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Values {
    /// The definitions of the kinds Workflow, Connection, Execution and Artifact.
    pub crds: Crds,
    /// Which namespaces the operator looks after.
    pub scope: Scope,
    /// The object store of the installation.
    pub store: Store,
    /// Where images come from.
    pub images: Images,
    /// The operator.
    pub operator: Operator,
    /// The pods of tasks.
    pub runner: Runner,
    /// Who checks SQL before it runs.
    pub checker: Checker,
    /// What is said of objects as they are applied.
    pub admission: Admission,
    /// Rights of people.
    pub rbac: Rbac,
    /// Who may talk to whom.
    pub network_policy: NetworkPolicy,
    /// What Prometheus is told, by the kinds of the Prometheus operator.
    pub monitoring: Monitoring,
    /// Labels of every object.
    pub common_labels: Texts,
    /// Further objects, each a text or a mapping; both are templates.
    pub extra_objects: Vec<Value>,
    /// Values of other charts that this chart is a part of; not used.
    pub global: Object,
}

/// The definitions of the kinds.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Crds {
    /// Install them, and upgrade them with the chart.
    pub install: bool,
    /// Keep them, and with them every object of these kinds, when the chart is uninstalled.
    pub keep: bool,
    /// Annotations of the definitions, as for Argo CD: `argocd.argoproj.io/sync-options: Prune=false,ServerSideApply=true`.
    pub annotations: Texts,
}

/// Which namespaces the operator looks after.
#[derive(Default, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Scope {
    /// Only these; all of the cluster if there are none. The rights are then Roles in these namespaces, and one ClusterRole
    /// to let Artifacts go whose namespace is deleted. Where it is the release's own namespace alone, the chart makes no
    /// ClusterRole at all: delete Artifacts before that namespace.
    #[schemars(extend("uniqueItems" = true))]
    pub namespaces: Vec<String>,
}

/// The object store of the installation.
#[derive(Default, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Store {
    /// `s3://bucket/prefix`. Must be set; two installations never share it.
    #[schemars(regex(pattern = r"^(s3://.+)?$"))]
    pub uri: String,
    /// Environment of operator and task pods that says how to reach it: `AWS_ENDPOINT_URL`, `AWS_REGION`, …. No credentials.
    pub environment: Texts,
    /// Secret whose keys become environment, such as `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`: in the operator's
    /// namespace, and one of the same name in every namespace with tasks. Left out where service accounts have a workload
    /// identity.
    pub existing_secret: String,
}

/// Where images come from.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Images {
    /// Registry of both images, put before their repositories.
    pub registry: String,
    /// When they are pulled.
    pub pull_policy: PullPolicy,
    /// Names of Secrets to pull them with: in the operator's namespace, and in every namespace with tasks.
    pub pull_secrets: Vec<String>,
}

/// When an image is pulled.
#[derive(Serialize, JsonSchema)]
#[expect(dead_code, reason = "values that people may write")]
pub enum PullPolicy {
    Always,
    IfNotPresent,
    Never,
}

/// One image.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Image {
    /// Its repository, without the registry.
    #[schemars(length(min = 1))]
    pub repository: String,
    /// Its tag; the version of the chart if left out.
    pub tag: String,
    /// Its digest, `sha256:…`. Wins over the tag.
    #[schemars(regex(pattern = "^(sha256:[0-9a-f]{64})?$"))]
    pub digest: String,
}

/// The operator.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Operator {
    /// Its image.
    pub image: Image,
    /// How many pods. One works; others stand by and take over within about 15 seconds.
    #[schemars(range(min = 1, max = 5))]
    pub replicas: u8,
    /// What is logged, in the words of `RUST_LOG`: `info`, or `info,pintail_operator=debug`.
    #[schemars(length(min = 1))]
    pub log_level: String,
    /// Resources of its container.
    pub resources: Object,
    /// Its service account.
    pub service_account: ServiceAccount,
    /// Annotations of its pods.
    pub pod_annotations: Texts,
    /// Labels of its pods.
    pub pod_labels: Texts,
    /// Labels of the nodes it may run on.
    pub node_selector: Texts,
    /// Taints it bears.
    pub tolerations: Vec<Object>,
    /// Where its pods are drawn to.
    pub affinity: Object,
    /// Its PriorityClass.
    pub priority_class_name: String,
}

/// A service account that the chart makes.
#[derive(Default, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServiceAccount {
    /// Annotations, as for a workload identity.
    pub annotations: Texts,
}

/// The pods of tasks.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Runner {
    /// Their image.
    pub image: Image,
    /// Namespaces that get the service account `pintail-runner`, beside those of `scope.namespaces`. They must be there.
    pub namespaces: Vec<String>,
    /// That service account. It has no rights and no token.
    pub service_account: ServiceAccount,
    /// Other service accounts that a task may name.
    pub allowed_service_accounts: Vec<String>,
    /// How long the pod of a failed attempt is kept, in seconds.
    #[schemars(range(min = 60, max = 604_800))]
    #[serde(rename = "podTTLSeconds")]
    pub pod_ttl_seconds: u32,
}

/// Who checks SQL before it runs: a pod of the runner's image without token or network.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Checker {
    /// Make it. A Workflow is Ready only once its SQL was found right; without a checker SQL is not checked, and sensitive
    /// columns are not held back.
    pub enabled: bool,
    /// How many pods. Each checks one Workflow at a time.
    #[schemars(range(min = 1, max = 5))]
    pub replicas: u8,
    /// Functions that make of a sensitive value one that may leave.
    pub masking_functions: Vec<String>,
    /// Resources of its container. A check may take 768 MiB.
    pub resources: Object,
    /// Labels of the nodes it may run on.
    pub node_selector: Texts,
    /// Taints it bears.
    pub tolerations: Vec<Object>,
    /// Its PriorityClass.
    pub priority_class_name: String,
}

/// What is said of objects as they are applied: a webhook refuses what is wrong in itself and warns of the rest.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Admission {
    /// Make the webhook. Without it, and while it does not answer, objects are taken as they are, and their status says what
    /// is wrong. Not where the release's own namespace is the whole scope: a webhook is the cluster's.
    pub enabled: bool,
    /// Where its certificate comes from.
    pub certificate: AdmissionCertificate,
}

/// Where the certificate of the webhook comes from.
#[derive(Default, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AdmissionCertificate {
    /// The issuer of cert-manager that gives it, such as `{ name: cluster-ca, kind: ClusterIssuer }`. Left out: the operator
    /// makes one, keeps it in the Secret `pintail-admission`, and renews it.
    pub issuer_ref: Object,
}

/// Rights of people.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rbac {
    /// Whoever is bound to the ClusterRole `view`, `edit` or `admin` may read or write the objects of Pintail, too. Not
    /// where the release's own namespace is the whole scope.
    pub aggregate: bool,
}

/// Who may talk to whom.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NetworkPolicy {
    /// Make a NetworkPolicy for the operator, and for task pods and agents in every namespace that gets `pintail-runner`.
    pub enabled: bool,
    /// Where the operator may connect to, beside DNS. It needs the API server and the store.
    pub operator_egress: Vec<Object>,
    /// Where task pods and agents may connect to, beside DNS. They need the store and whatever connections name.
    pub task_egress: Vec<Object>,
    /// Who may connect to agents. They take events, which are signed.
    pub agent_ingress: Vec<Object>,
}

/// What Prometheus is told.
#[derive(Default, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Monitoring {
    /// How the operator is scraped.
    pub service_monitor: ServiceMonitor,
    /// Alerts.
    pub prometheus_rule: PrometheusRule,
}

/// How the operator is scraped.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServiceMonitor {
    /// Make a ServiceMonitor.
    pub enabled: bool,
    /// How often.
    #[schemars(regex(pattern = "^[0-9]+(ms|s|m)$"))]
    pub interval: String,
    /// Labels by which Prometheus finds it.
    pub labels: Texts,
}

/// Alerts.
#[derive(Default, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PrometheusRule {
    /// Make a PrometheusRule.
    pub enabled: bool,
    /// Labels by which Prometheus finds it.
    pub labels: Texts,
}

fn object(value: Value) -> Object {
    value.as_object().cloned().unwrap_or_default()
}

fn image(repository: &str) -> Image {
    Image { repository: repository.to_owned(), tag: String::new(), digest: String::new() }
}

impl Default for Crds {
    fn default() -> Self {
        Self { install: true, keep: true, annotations: Texts::new() }
    }
}

impl Default for Images {
    fn default() -> Self {
        Self { registry: String::new(), pull_policy: PullPolicy::IfNotPresent, pull_secrets: Vec::new() }
    }
}

impl Default for Operator {
    fn default() -> Self {
        Self {
            image: image("pintail-operator"),
            replicas: 1,
            log_level: "info".to_owned(),
            // No limit of processor time: it would only make steps late.
            resources: object(serde_json::json!({
                "requests": { "cpu": "50m", "memory": "128Mi" },
                "limits": { "memory": "512Mi" },
            })),
            service_account: ServiceAccount::default(),
            pod_annotations: Texts::new(),
            pod_labels: Texts::new(),
            node_selector: Texts::new(),
            tolerations: Vec::new(),
            affinity: Object::new(),
            priority_class_name: String::new(),
        }
    }
}

impl Default for Runner {
    fn default() -> Self {
        Self {
            image: image("pintail-runner"),
            namespaces: Vec::new(),
            service_account: ServiceAccount::default(),
            allowed_service_accounts: Vec::new(),
            pod_ttl_seconds: 3600,
        }
    }
}

impl Default for Checker {
    fn default() -> Self {
        Self {
            enabled: true,
            replicas: 1,
            masking_functions: vec!["md5".to_owned(), "sha256".to_owned()],
            // It rests nearly always; a check that needs more than its part is ended before the pod is.
            resources: object(serde_json::json!({
                "requests": { "cpu": "20m", "memory": "128Mi" },
                "limits": { "memory": "1Gi" },
            })),
            node_selector: Texts::new(),
            tolerations: Vec::new(),
            priority_class_name: String::new(),
        }
    }
}

impl Default for Admission {
    fn default() -> Self {
        Self { enabled: true, certificate: AdmissionCertificate::default() }
    }
}

impl Default for Rbac {
    fn default() -> Self {
        Self { aggregate: true }
    }
}

impl Default for NetworkPolicy {
    fn default() -> Self {
        Self {
            enabled: false,
            operator_egress: vec![object(serde_json::json!({
                "ports": [{ "protocol": "TCP", "port": 443 }, { "protocol": "TCP", "port": 6443 }],
            }))],
            // All but the address at which clouds tell a machine its credentials.
            task_egress: vec![object(serde_json::json!({
                "to": [
                    { "ipBlock": { "cidr": "0.0.0.0/0", "except": ["169.254.169.254/32"] } },
                    { "ipBlock": { "cidr": "::/0", "except": ["fd00:ec2::254/128"] } },
                ],
            }))],
            agent_ingress: vec![object(serde_json::json!({ "ports": [{ "protocol": "TCP", "port": 8080 }] }))],
        }
    }
}

impl Default for ServiceMonitor {
    fn default() -> Self {
        Self { enabled: false, interval: "30s".to_owned(), labels: Texts::new() }
    }
}
