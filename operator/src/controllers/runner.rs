//! What all pods of the runner's image have in common. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Capabilities, EmptyDirVolumeSource, EnvFromSource, EnvVar, EnvVarSource, LocalObjectReference, ObjectFieldSelector,
    PodSecurityContext, SeccompProfile, SecretEnvSource, SecretKeySelector, SecurityContext, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use pintail_api as api;
use pintail_protocol::secret_variable;

use crate::Settings;

pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";
pub const MANAGED_BY: &str = "pintail";
pub const NAME_LABEL: &str = "app.kubernetes.io/name";
pub const SAFE_TO_EVICT: &str = "cluster-autoscaler.kubernetes.io/safe-to-evict";
/// Where a pod may write. The image's `TMPDIR` says the same.
const SCRATCH: &str = "/scratch";

/// The runner's user and group in its image.
const USER: i64 = 65532;
const SCRATCH_VOLUME: &str = "scratch";

/// How the order reaches the pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OrderText {
    /// The text itself.
    Inline(String),
    /// `<key>#<digest>` of an object of the store.
    Object(String),
}

/// `mounts_others` where it has volumes that do not begin empty: what is in those, the runner's group may use.
pub fn pod_security(mounts_others: bool) -> PodSecurityContext {
    PodSecurityContext {
        run_as_non_root: Some(true),
        run_as_user: Some(USER),
        run_as_group: Some(USER),
        fs_group: mounts_others.then_some(USER),
        // Large volumes are not walked through at every start.
        fs_group_change_policy: mounts_others.then(|| "OnRootMismatch".to_owned()),
        seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".to_owned(), localhost_profile: None }),
        ..PodSecurityContext::default()
    }
}

pub fn container_security() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        read_only_root_filesystem: Some(true),
        capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), add: None }),
        ..SecurityContext::default()
    }
}

pub fn pull_secrets(settings: &Settings) -> Option<Vec<LocalObjectReference>> {
    let secret = |name: &String| LocalObjectReference { name: name.clone() };
    Some(settings.runner.image_pull_secrets.iter().map(secret).collect::<Vec<_>>()).filter(|all| !all.is_empty())
}

/// The credential of the store.
pub fn store_secret(settings: &Settings) -> Option<Vec<EnvFromSource>> {
    settings.store.secret_name.as_ref().map(|name| {
        vec![EnvFromSource {
            secret_ref: Some(SecretEnvSource { name: name.clone(), optional: None }),
            ..EnvFromSource::default()
        }]
    })
}

pub fn variable(name: &str, value: &str) -> EnvVar {
    EnvVar { name: name.to_owned(), value: Some(value.to_owned()), value_from: None }
}

/// `POD_UID`
pub fn pod_uid() -> EnvVar {
    EnvVar {
        name: "POD_UID".to_owned(),
        value: None,
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector { field_path: "metadata.uid".to_owned(), api_version: None }),
            ..EnvVarSource::default()
        }),
    }
}

/// What the store's client needs beside its credential.
pub fn store_variables(settings: &Settings) -> impl Iterator<Item = EnvVar> {
    settings.store.environment.iter().map(|(name, value)| variable(name, &escaped(value)))
}

/// The kubelet replaces `$(NAME)` in values, and `$$` by `$`.
fn escaped(value: &str) -> String {
    value.replace('$', "$$")
}

/// Secrets, which are only named: the kubelet reads them.
pub fn secret_variables<'a>(references: impl Iterator<Item = &'a api::SecretKeyRef>) -> Vec<EnvVar> {
    let mut secrets: BTreeMap<String, EnvVar> = BTreeMap::new();
    for reference in references {
        let name = secret_variable(&reference.name, &reference.key);
        let selector = SecretKeySelector { name: reference.name.clone(), key: reference.key.clone(), optional: None };
        let source = EnvVarSource { secret_key_ref: Some(selector), ..EnvVarSource::default() };
        secrets.insert(name.clone(), EnvVar { name, value: None, value_from: Some(source) });
    }
    secrets.into_values().collect()
}

/// Every Secret key that a Connection names.
pub fn secret_references(spec: &api::ConnectionSpec) -> Vec<&api::SecretKeyRef> {
    let mut values: Vec<Option<&api::SecretValue>> = Vec::new();
    if let Some(s3) = &spec.s3 {
        values.extend([s3.access_key_id_from.as_ref(), s3.secret_access_key_from.as_ref()]);
    }
    values.extend(spec.http.iter().map(|http| http.bearer_token_from.as_ref()));
    values.extend(spec.postgres.iter().map(|postgres| postgres.password_from.as_ref()));
    if let Some(smtp) = &spec.smtp {
        values.extend([smtp.username_from.as_ref(), smtp.password_from.as_ref()]);
    }
    if let Some(webhook) = &spec.webhook {
        values.extend([
            webhook.url_from.as_ref(),
            webhook.bearer_token_from.as_ref(),
            webhook.signing_key_from.as_ref(),
        ]);
    }
    values.extend(spec.secrets.iter().flat_map(|secrets| secrets.values()).map(Some));
    values.into_iter().flatten().map(|value| &value.secret_key_ref).collect()
}

pub fn scratch_volume(size_limit_bytes: u64) -> Volume {
    Volume {
        name: SCRATCH_VOLUME.to_owned(),
        empty_dir: Some(EmptyDirVolumeSource { size_limit: Some(bytes(size_limit_bytes)), medium: None }),
        ..Volume::default()
    }
}

pub fn scratch_mount() -> VolumeMount {
    mount(SCRATCH_VOLUME, SCRATCH.to_owned(), false)
}

pub fn mount(volume: &str, path: String, read_only: bool) -> VolumeMount {
    VolumeMount {
        name: volume.to_owned(),
        mount_path: path,
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    }
}

pub fn bytes(count: u64) -> Quantity {
    Quantity(count.to_string())
}

pub fn millis(count: u64) -> Quantity {
    Quantity(format!("{count}m"))
}
