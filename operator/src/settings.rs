use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What the installation decides, as the chart writes it into `settings.json`. Credentials are never here: those of the
/// store come from the environment (`AWS_ACCESS_KEY_ID`, …) or from a workload identity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Settings {
    /// Namespace of the operator itself: its lease is there.
    pub namespace: String,
    #[serde(default)]
    pub scope: Scope,
    pub store: StoreSettings,
    pub runner: RunnerSettings,
    #[serde(default)]
    pub agents: AgentSettings,
    #[serde(default)]
    pub checker: CheckerSettings,
    /// How objects are reviewed as they are applied; they are not if left out.
    #[serde(default)]
    pub admission: Option<AdmissionSettings>,
}

/// Which namespaces the operator looks after.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Scope {
    /// All of them, also those to come.
    #[default]
    Cluster,
    /// These only.
    Namespaces(Vec<String>),
}

/// The object store of the installation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StoreSettings {
    /// `s3://bucket/prefix`.
    pub uri: String,
    /// What runner pods and operator need beside the credential, as environment: `AWS_ENDPOINT_URL`, `AWS_REGION`, ….
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// Secret in each namespace whose keys become the environment of task pods; none where pods have a workload identity.
    #[serde(default)]
    pub secret_name: Option<String>,
}

/// How task pods are made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RunnerSettings {
    /// Image of the task runner, best by digest.
    pub image: String,
    /// `Always`, `IfNotPresent` or `Never`.
    #[serde(default)]
    pub image_pull_policy: Option<String>,
    #[serde(default)]
    pub image_pull_secrets: Vec<String>,
    /// ServiceAccount of task pods that name none.
    pub service_account: String,
    /// Others that a task may name.
    #[serde(default)]
    pub allowed_service_accounts: Vec<String>,
    /// How long a failed pod is kept, in seconds.
    pub pod_ttl_seconds: u64,
}

/// How agents are made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AgentSettings {
    /// Where they reach the operator; the chart's Service if left out.
    #[serde(default)]
    pub operator_url: Option<String>,
}

/// How SQL is checked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CheckerSettings {
    /// Where the checker is, without a path; SQL is not checked if left out.
    #[serde(default)]
    pub url: Option<String>,
    /// Functions that mask sensitive columns; `md5` and `sha256` if left out.
    #[serde(default)]
    pub masking_functions: Option<Vec<String>>,
}

/// How objects are reviewed as they are applied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AdmissionSettings {
    /// Name of the ValidatingWebhookConfiguration.
    pub configuration: String,
    /// Name of the Service that leads here, in the operator's namespace.
    pub service: String,
    /// Folder with `tls.crt` and `tls.key`, which somebody else renews; a certificate is made here if left out.
    #[serde(default)]
    pub certificate_folder: Option<PathBuf>,
}

/// Settings that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("settings: {0}")]
pub struct SettingsError(String);

impl Settings {
    /// Reads `settings.json`.
    ///
    /// # Errors
    /// Where it is no JSON of this shape.
    pub fn parse(text: &str) -> Result<Self, SettingsError> {
        serde_json::from_str(text).map_err(|error| SettingsError(error.to_string()))
    }

    /// Where agents reach the operator, without a slash at the end.
    #[must_use]
    pub fn operator_url(&self) -> String {
        match &self.agents.operator_url {
            Some(url) => url.trim_end_matches('/').to_owned(),
            None => format!("http://pintail-operator-agents.{}.svc", self.namespace),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `settings.json` of an installation that the chart's tests have recorded.
    fn rendered(snapshot: &str) -> Settings {
        let (_, rest) = snapshot.split_once("  settings.json: |\n").unwrap();
        let (text, _) = rest.split_once("\n---\n").unwrap();
        Settings::parse(text).unwrap()
    }

    #[test]
    fn what_the_chart_writes_is_read() {
        let everything = rendered(include_str!("../../e2e/chart/snapshots/everything.yaml"));
        assert_eq!(everything.namespace, "pintail-system");
        assert_eq!(everything.scope, Scope::Cluster);
        assert_eq!(everything.store.uri, "s3://data/pintail");
        assert_eq!(everything.store.environment["AWS_REGION"], "eu-west-1");
        assert_eq!(everything.store.secret_name.as_deref(), Some("pintail-store"));
        assert_eq!(everything.runner.image, "registry.example/team/pintail-runner:0.1.0-sql");
        assert_eq!(everything.runner.image_pull_policy.as_deref(), Some("Always"));
        assert_eq!(everything.runner.image_pull_secrets, ["registry"]);
        assert_eq!(everything.runner.service_account, "pintail-runner");
        assert_eq!(everything.runner.allowed_service_accounts, ["warehouse"]);
        assert_eq!(everything.runner.pod_ttl_seconds, 600);
        assert_eq!(everything.checker.url.as_deref(), Some("http://pintail-checker.pintail-system.svc"));
        assert_eq!(everything.checker.masking_functions.unwrap_or_default(), ["sha256", "mask_mail"]);

        let least = rendered(include_str!("../../e2e/chart/snapshots/least.yaml"));
        assert_eq!((least.store.secret_name, least.runner.image.as_str()), (None, "pintail-runner:0.1.0"));
        let namespaces = rendered(include_str!("../../e2e/chart/snapshots/namespaces.yaml"));
        assert_eq!(namespaces.scope, Scope::Namespaces(vec!["team-a".to_owned(), "team-b".to_owned()]));
    }
}
