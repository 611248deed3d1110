//! What the server in memory and a real one must do alike: one table, run against both.
//!
//! The real half runs where `PINTAIL_TEST_KUBECONFIG` names the kubeconfig of a cluster for tests; it needs no node.

mod deletion;
mod reading;
mod watching;
mod writing;

use std::fmt::Debug;
use std::time::Duration;

use futures::future::LocalBoxFuture;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, ServiceAccount};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use pintail_api as api;
use serde_json::json;

use crate::clock::SimulatedClock;
use crate::server::Server;
use crate::server::line::Line;
use crate::simulate;

/// A namespace of its own on some server.
#[derive(Clone)]
pub struct Place {
    pub client: Client,
    pub namespace: String,
}

type Behaviour = (&'static str, fn(Place) -> LocalBoxFuture<'static, ()>);

/// Makes an entry of the table of the name of a function.
macro_rules! behaviours {
    ($($module:ident::$name:ident),* $(,)?) => {
        [$((stringify!($name), |place| Box::pin($module::$name(place)))),*]
    };
}

const BEHAVIOURS: &[Behaviour] = &behaviours![
    writing::a_created_object_has_what_the_server_gives_it,
    writing::a_second_object_of_a_name_is_refused,
    writing::an_object_in_no_namespace_is_refused,
    writing::a_status_in_a_create_is_dropped,
    writing::a_replace_of_an_older_version_is_a_conflict,
    writing::a_replace_without_a_version_is_refused_of_custom_resources,
    writing::a_patch_with_an_older_version_is_a_conflict,
    writing::a_patch_with_another_uid_is_refused,
    writing::a_replace_of_another_uid_is_a_conflict,
    writing::a_write_that_changes_nothing_keeps_the_version,
    writing::a_change_of_the_spec_is_a_generation_and_one_of_labels_is_none,
    writing::a_write_of_the_status_changes_nothing_else,
    writing::a_write_of_the_object_leaves_its_status,
    writing::a_null_in_a_merge_patch_removes_the_field,
    writing::what_an_execution_runs_cannot_be_changed,
    writing::the_data_of_a_revision_cannot_be_changed,
    writing::the_deadline_of_a_pod_can_be_lowered_only,
    writing::a_pod_without_its_service_account_is_refused,
    writing::a_name_that_is_none_is_refused,
    writing::a_dry_run_stores_nothing,
    reading::a_missing_object_is_not_found,
    reading::an_unknown_kind_is_not_found,
    reading::labels_select,
    reading::fields_select,
    reading::a_list_has_the_version_of_its_newest_object,
    reading::metadata_alone_can_be_read,
    reading::the_kinds_of_the_group_are_listed,
    deletion::an_object_is_gone_at_once,
    deletion::an_object_with_a_finalizer_stays_until_it_is_removed,
    deletion::a_deletion_of_another_uid_is_a_conflict,
    deletion::a_deletion_of_an_older_version_is_a_conflict,
    deletion::a_missing_object_cannot_be_deleted,
    deletion::a_name_used_again_has_another_uid,
    deletion::a_pod_without_a_node_is_gone_at_once,
    deletion::a_pod_on_a_node_is_left_to_its_kubelet,
    deletion::a_finished_pod_is_gone_at_once,
    deletion::what_belongs_to_a_deleted_owner_goes,
    deletion::what_belongs_to_an_owner_that_never_was_goes,
    deletion::a_foreground_deletion_waits_for_what_belongs_to_it,
    deletion::a_namespace_that_ends_takes_nothing_new_and_goes_with_all_in_it,
    watching::a_watch_goes_on_after_the_version_it_names,
    watching::a_watch_without_a_version_begins_with_what_is_there,
    watching::an_object_that_no_longer_matches_is_deleted_for_the_watch,
    watching::a_deletion_has_a_version_of_its_own,
    watching::a_watch_from_a_forgotten_version_expires,
    watching::a_watch_ends_with_its_time,
    watching::a_reflector_sees_all_there_is,
];

impl Place {
    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType: Default>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub async fn create<K>(&self, object: K) -> K
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType: Default>
            + Clone
            + Debug
            + serde::Serialize
            + serde::de::DeserializeOwned,
    {
        self.api().create(&PostParams::default(), &object).await.unwrap()
    }

    async fn account(&self, name: &str) {
        let account = ServiceAccount { metadata: named(name), ..ServiceAccount::default() };
        // A cluster with its controllers makes the account `default` itself.
        let _ = self.api::<ServiceAccount>().create(&PostParams::default(), &account).await;
    }
}

pub fn named(name: &str) -> kube::core::ObjectMeta {
    kube::core::ObjectMeta { name: Some(name.to_owned()), ..Default::default() }
}

pub fn config(name: &str) -> ConfigMap {
    ConfigMap { metadata: named(name), ..ConfigMap::default() }
}

pub fn execution(name: &str) -> api::Execution {
    let workflow_ref = api::ObjectRef { name: "hello".to_owned() };
    serde_json::from_value(json!({
        "apiVersion": "pintail.dev/v1alpha1",
        "kind": "Execution",
        "metadata": { "name": name },
        "spec": { "workflowRef": workflow_ref },
    }))
    .unwrap()
}

pub fn pod(name: &str) -> Pod {
    serde_json::from_value(json!({
        "metadata": { "name": name },
        "spec": { "containers": [{ "name": "task", "image": "runner" }], "restartPolicy": "Never" },
    }))
    .unwrap()
}

/// The `Status` that a refused call was answered with.
pub fn refused<T: Debug>(result: kube::Result<T>) -> kube::core::Status {
    match result {
        Err(kube::Error::Api(status)) => *status,
        other => panic!("not refused: {other:?}"),
    }
}

pub async fn merge<K>(api: &Api<K>, name: &str, patch: serde_json::Value) -> kube::Result<K>
where
    K: Clone + Debug + serde::de::DeserializeOwned,
{
    api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await
}

/// Looks until it holds, for at most a minute.
pub async fn eventually<F: Future<Output = bool>>(what: &str, mut look: impl FnMut() -> F) {
    for _ in 0..600 {
        if look().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("not within a minute: {what}");
}

async fn prepare(client: &Client, namespace: &str) -> Place {
    let object = Namespace { metadata: named(namespace), ..Namespace::default() };
    Api::<Namespace>::all(client.clone()).create(&PostParams::default(), &object).await.unwrap();
    let place = Place { client: client.clone(), namespace: namespace.to_owned() };
    place.account("default").await;
    place
}

#[test]
fn the_server_in_memory_behaves() {
    for (name, behaviour) in BEHAVIOURS {
        println!("{name}");
        simulate(async {
            let server = Server::new(1, SimulatedClock::start());
            let manager = tokio::spawn(crate::server::manager::run(server.clone()));
            let place = prepare(&Line::calm(&server, "test").client(), "behaviour").await;
            behaviour(place).await;
            manager.abort();
        });
    }
}

#[test]
fn a_real_server_behaves_alike() {
    let Ok(path) = std::env::var("PINTAIL_TEST_KUBECONFIG") else {
        println!("skipped: PINTAIL_TEST_KUBECONFIG names no cluster for tests");
        return;
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let kubeconfig = kube::config::Kubeconfig::read_from(path).unwrap();
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await.unwrap();
        let client = Client::try_from(config).unwrap();
        install(&client).await;
        let mut different = Vec::new();
        for (number, (name, behaviour)) in BEHAVIOURS.iter().enumerate() {
            println!("{name}");
            let namespace = format!("behaviour-{}-{number}", std::process::id());
            let place = prepare(&client, &namespace).await;
            if tokio::task::spawn_local(behaviour(place)).await.is_err() {
                different.push(name);
            }
            let _ = Api::<Namespace>::all(client.clone()).delete(&namespace, &DeleteParams::default()).await;
        }
        assert!(different.is_empty(), "a real server differs: {different:?}");
    });
}

async fn install(client: &Client) {
    use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
    use kube::CustomResourceExt;
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    for definition in [api::Workflow::crd(), api::Execution::crd(), api::Artifact::crd(), api::Connection::crd()] {
        let patch = PatchParams::apply("behaviours").force();
        definitions.patch(&definition.name_any(), &patch, &Patch::Apply(&definition)).await.unwrap();
    }
    let executions: Api<api::Execution> = Api::all(client.clone());
    eventually("the kinds are served", || async { executions.list(&Default::default()).await.is_ok() }).await;
}
