//! A short-lived pod that reads the store: users have no credential of it, and pods of their namespace do.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::{StreamExt, pin_mut};
use k8s_openapi::api::core::v1::{
    Capabilities, Container, ContainerState, ContainerStateTerminated, EmptyDirVolumeSource, EnvFromSource, EnvVar,
    LocalObjectReference, Pod, PodSecurityContext, PodSpec, ResourceRequirements, SeccompProfile, SecretEnvSource,
    SecurityContext, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DeleteParams, LogParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Resource, ResourceExt};
use pintail_api as api;
use pintail_protocol::{READ_REQUEST_VARIABLE, Read, ReadRequest, encode_request, format_for_runner};

use crate::cluster::Cluster;
use crate::cluster::failure::Asked;
use crate::failure::{Code, CommandFailure};
use crate::interrupt::interrupts;

const CONTAINER: &str = "reader";
/// Nodes may have to be started, and images pulled.
const START_TIMEOUT: Duration = Duration::from_secs(180);
/// Ends the pod of a program that was killed before it could delete it.
const POD_DEADLINE_S: i64 = 600;
/// The runner's user and group in its image.
const USER: i64 = 65532;
const SCRATCH: &str = "/scratch";

/// What reads the store of a namespace.
pub struct Reader<'a> {
    cluster: &'a Cluster,
    image: String,
    /// Of requests to that image.
    format: u32,
    settings: api::Reader,
    store: String,
    /// The run that told, which the pod goes with if it is left over.
    run: api::Execution,
}

impl<'a> Reader<'a> {
    /// As `run` says; where it says nothing, as the newest run that does.
    pub async fn find(cluster: &'a Cluster, run: Option<&api::Execution>) -> Result<Self, CommandFailure> {
        if let Some(reader) = run.and_then(|run| Self::told_by(cluster, run)) {
            return Ok(reader);
        }
        let executions = cluster.executions().await?;
        executions.iter().find_map(|run| Self::told_by(cluster, run)).ok_or_else(|| {
            CommandFailure::failed(format!(
                "no run {} tells how the store is read: let one start there first",
                cluster.location().within()
            ))
        })
    }

    fn told_by(cluster: &'a Cluster, run: &api::Execution) -> Option<Self> {
        let resolved = run.status.as_ref()?.resolved.as_ref()?;
        Some(Self {
            cluster,
            image: resolved.runner_image.clone()?,
            format: format_for_runner(resolved.order_format),
            settings: resolved.reader.clone()?,
            store: resolved.store.clone()?,
            run: run.clone(),
        })
    }

    /// Image of its pods.
    pub fn image(&self) -> &str {
        &self.image
    }

    /// The store, `s3://bucket/prefix`.
    pub fn store(&self) -> &str {
        &self.store
    }

    /// Key of an object below the root of the store.
    pub fn key<'u>(&self, uri: &'u str) -> Option<&'u str> {
        uri.strip_prefix(self.store.trim_end_matches('/'))?.strip_prefix('/')
    }

    /// Makes a pod, waits for its answer, and deletes it, also where Ctrl-C comes first.
    pub async fn ask(&self, read: Read) -> Result<String, CommandFailure> {
        let store = pintail_storage::parse_location(&self.store)?;
        let request = ReadRequest { format: self.format, store, read };
        let request = encode_request(&request).map_err(CommandFailure::failed)?;
        let mut interrupts = interrupts()?;
        let pod = self.cluster.create(&self.pod(request), false).await?;
        let name = pod.name_any();
        let answer = tokio::select! {
            answer = self.answer(&name) => answer,
            _ = interrupts.recv() => Err(CommandFailure::shown(Code::Interrupted)),
        };
        self.delete(&name).await;
        answer
    }

    async fn answer(&self, name: &str) -> Result<String, CommandFailure> {
        let ended = tokio::time::timeout(START_TIMEOUT, self.end_of(name)).await.map_err(|_| CommandFailure {
            code: Code::TimedOut,
            message: format!("pod {name:?} {} did not end in time", self.cluster.location().within()),
        })??;
        let parameters = LogParams { container: Some(CONTAINER.to_owned()), ..LogParams::default() };
        let pods = self.cluster.api::<Pod>();
        if ended.exit_code == 0 {
            return self.cluster.ask(Asked::log(name), pods.logs(name, &parameters)).await;
        }
        let said = ended.message.or(ended.reason).unwrap_or_default();
        Err(CommandFailure::failed(format!("the pod that reads the store {} failed: {}", self.store, said.trim())))
    }

    /// Waits for the end of the pod's container.
    async fn end_of(&self, name: &str) -> Result<ContainerStateTerminated, CommandFailure> {
        let events = watcher::watch_object(self.cluster.api::<Pod>(), name).default_backoff();
        pin_mut!(events);
        let mut told = None;
        while let Some(event) = events.next().await {
            let pod = match event {
                Ok(Some(pod)) => pod,
                Ok(None) => return Err(CommandFailure::failed(format!("pod {name:?} was deleted by somebody else"))),
                Err(watcher::Error::InitialListFailed(error) | watcher::Error::WatchStartFailed(error)) => {
                    return Err(self.cluster.location().explain(&Asked::of::<Pod>("watch", Some(name)), &error));
                }
                Err(_) => continue,
            };
            match progress_of(&pod) {
                PodProgress::Ended(ended) => return Ok(*ended),
                PodProgress::Stuck(why) => {
                    return Err(CommandFailure::failed(format!("pod {name:?} cannot run: {why}")));
                }
                PodProgress::Waiting(why) if told.as_ref() != Some(&why) => {
                    eprintln!("waiting: {why}");
                    told = Some(why);
                }
                PodProgress::Waiting(_) | PodProgress::Running => {}
            }
        }
        Err(CommandFailure::failed(format!("lost sight of pod {name:?}")))
    }

    async fn delete(&self, name: &str) {
        let asked = Asked::of::<Pod>("delete", Some(name));
        let pods = self.cluster.api::<Pod>();
        let parameters = DeleteParams::default().grace_period(0);
        if let Err(failure) = self.cluster.ask(asked, pods.delete(name, &parameters)).await {
            eprintln!("warning: pod {name} stays: {}", failure.message);
        }
    }

    fn pod(&self, request: String) -> Pod {
        let random = uuid::Uuid::new_v4().simple().to_string();
        let labels = [("app.kubernetes.io/name", "pintail-reader"), ("app.kubernetes.io/managed-by", "pintail-cli")];
        let owned = |name: &str| name.to_owned();
        Pod {
            metadata: ObjectMeta {
                name: Some(format!("pintail-reader-{}", &random[..10])),
                labels: Some(labels.map(|(key, value)| (owned(key), owned(value))).into()),
                owner_references: self.run.owner_ref(&()).map(|owner| vec![owner]),
                ..ObjectMeta::default()
            },
            spec: Some(PodSpec {
                containers: vec![self.container(request)],
                restart_policy: Some(owned("Never")),
                service_account_name: Some(self.settings.service_account.clone()),
                automount_service_account_token: Some(false),
                enable_service_links: Some(false),
                active_deadline_seconds: Some(POD_DEADLINE_S),
                image_pull_secrets: Some(
                    self.settings
                        .image_pull_secrets
                        .iter()
                        .map(|name| LocalObjectReference { name: name.clone() })
                        .collect(),
                ),
                security_context: Some(PodSecurityContext {
                    run_as_non_root: Some(true),
                    run_as_user: Some(USER),
                    run_as_group: Some(USER),
                    fs_group: Some(USER),
                    seccomp_profile: Some(SeccompProfile { type_: owned("RuntimeDefault"), localhost_profile: None }),
                    ..PodSecurityContext::default()
                }),
                volumes: Some(vec![Volume {
                    name: owned("scratch"),
                    empty_dir: Some(EmptyDirVolumeSource::default()),
                    ..Volume::default()
                }]),
                ..PodSpec::default()
            }),
            status: None,
        }
    }

    fn container(&self, request: String) -> Container {
        let owned = |name: &str| name.to_owned();
        let variable = |name: &str, value: String| EnvVar { name: owned(name), value: Some(value), value_from: None };
        // The kubelet replaces `$(NAME)` in values, and `$$` by `$`.
        let settings = self.settings.environment.iter().map(|(name, value)| variable(name, value.replace('$', "$$")));
        let own = [variable(READ_REQUEST_VARIABLE, request)];
        let quantity = |name: &str, amount: &str| (owned(name), Quantity(owned(amount)));
        Container {
            name: owned(CONTAINER),
            image: Some(self.image.clone()),
            // It has run tasks here.
            image_pull_policy: Some(owned("IfNotPresent")),
            command: Some(["/bin/pintail-runner", "read"].map(owned).to_vec()),
            args: Some(vec![owned("--request-from-environment")]),
            env: Some(settings.chain(own).collect()),
            env_from: self.settings.secret_name.as_ref().map(|name| {
                let secret = SecretEnvSource { name: name.clone(), optional: None };
                vec![EnvFromSource { secret_ref: Some(secret), ..EnvFromSource::default() }]
            }),
            resources: Some(ResourceRequirements {
                requests: Some(BTreeMap::from([quantity("cpu", "100m"), quantity("memory", "256Mi")])),
                limits: Some(BTreeMap::from([quantity("memory", "1Gi")])),
                claims: None,
            }),
            security_context: Some(SecurityContext {
                allow_privilege_escalation: Some(false),
                read_only_root_filesystem: Some(true),
                capabilities: Some(Capabilities { drop: Some(vec![owned("ALL")]), add: None }),
                ..SecurityContext::default()
            }),
            termination_message_policy: Some(owned("FallbackToLogsOnError")),
            volume_mounts: Some(vec![VolumeMount {
                name: owned("scratch"),
                mount_path: owned(SCRATCH),
                ..VolumeMount::default()
            }]),
            ..Container::default()
        }
    }
}

/// How far a pod has come.
#[derive(Debug, PartialEq)]
enum PodProgress {
    Waiting(String),
    /// Or on its usual way to it.
    Running,
    /// It needs a person.
    Stuck(String),
    Ended(Box<ContainerStateTerminated>),
}

fn progress_of(pod: &Pod) -> PodProgress {
    /// These do not mend themselves while somebody waits.
    const STUCK: [&str; 5] =
        ["ErrImagePull", "ImagePullBackOff", "InvalidImageName", "CreateContainerConfigError", "ErrImageNeverPull"];
    let status = pod.status.clone().unwrap_or_default();
    let container = status.container_statuses.unwrap_or_default().into_iter().next();
    let words = |reason: &str, message: Option<String>| {
        message.map_or_else(|| reason.to_owned(), |message| format!("{reason}: {message}"))
    };
    match container.and_then(|container| container.state) {
        Some(ContainerState { terminated: Some(ended), .. }) => PodProgress::Ended(Box::new(ended)),
        Some(ContainerState { running: Some(_), .. }) => PodProgress::Running,
        Some(ContainerState { waiting: Some(waiting), .. }) => {
            let reason = waiting.reason.unwrap_or_default();
            let words = words(&reason, waiting.message);
            match reason.as_str() {
                "ContainerCreating" | "PodInitializing" => PodProgress::Running,
                reason if STUCK.contains(&reason) => PodProgress::Stuck(words),
                _ => PodProgress::Waiting(words),
            }
        }
        _ if status.phase.as_deref() == Some("Failed") => {
            PodProgress::Stuck(words(&status.reason.unwrap_or_default(), status.message))
        }
        _ => {
            let scheduled = status.conditions.unwrap_or_default().into_iter();
            let refused = scheduled
                .into_iter()
                .find(|condition| condition.type_ == "PodScheduled" && condition.status == "False");
            match refused {
                Some(condition) => {
                    PodProgress::Waiting(words(&condition.reason.unwrap_or_default(), condition.message))
                }
                None => PodProgress::Running,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn progress(status: serde_json::Value) -> PodProgress {
        progress_of(&serde_json::from_value(json!({ "metadata": {}, "status": status })).unwrap())
    }

    #[test]
    fn a_pod_that_cannot_start_is_told_from_one_that_waits() {
        let waiting = |reason: &str| {
            json!({ "containerStatuses": [{
            "name": "reader", "image": "x", "imageID": "", "ready": false, "restartCount": 0,
            "state": { "waiting": { "reason": reason, "message": "why" } },
        }] })
        };
        assert_eq!(progress(waiting("ContainerCreating")), PodProgress::Running);
        assert_eq!(progress(waiting("CrashLoopBackOff")), PodProgress::Waiting("CrashLoopBackOff: why".to_owned()));
        assert_eq!(progress(waiting("ImagePullBackOff")), PodProgress::Stuck("ImagePullBackOff: why".to_owned()));
        let unschedulable = json!({ "conditions": [{
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes",
        }] });
        assert_eq!(progress(unschedulable), PodProgress::Waiting("Unschedulable: 0/1 nodes".to_owned()));
        let evicted = json!({ "phase": "Failed", "reason": "Evicted", "message": "disk" });
        assert_eq!(progress(evicted), PodProgress::Stuck("Evicted: disk".to_owned()));
    }
}
