//! The process around the controllers: settings, signals, the store and its claim, leading, and the pages for others.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use k8s_openapi::api::core::v1::Namespace;
use kube::client::ClientBuilder;
use kube::{Api, Client, ResourceExt};
use pintail_api::{API_VERSION, definitions};
use pintail_protocol::StoreLocation;
use pintail_storage::{Installation, Store, parse_location};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::admission::{Certificate, watch_certificate};
use crate::http::Readiness;
use crate::lease::{Candidate, LEASE_NAME, Leadership};
use crate::requests::CountRequests;
use crate::{
    Admission, Context, Desk, HttpChecker, Metrics, Scope, Settings, SqlChecker, SystemClock, admission, agents, http,
    logging, run_controllers,
};

/// What the cluster or the store lacks is looked for again after this time, then after twice as long, and so on.
const FIRST_RETRY_AFTER: Duration = Duration::from_secs(1);
/// Whoever puts right what is missing should not wait long for it to be seen.
const LAST_RETRY_AFTER: Duration = Duration::from_secs(30);
/// The namespace whose uid stands for the cluster.
const CLUSTER_NAMESPACE: &str = "kube-system";

/// Runs workflows on Kubernetes: looks after the objects of group pintail.dev. One replica works at a time, the others stand
/// by. The credential of the store comes from the environment, the cluster from the pod's service account or a kubeconfig.
#[derive(Parser)]
#[command(name = "pintail-operator", version)]
struct Arguments {
    /// The installation's settings, a JSON file as the chart writes it.
    #[arg(long, value_name = "FILE")]
    settings: PathBuf,

    /// Where /healthz, /readyz and /metrics are served.
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:8080")]
    listen: SocketAddr,

    /// Where objects are reviewed as they are applied, over TLS.
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:8443")]
    listen_admission: SocketAddr,

    /// Where agents tell of objects and events that start runs.
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:8090")]
    listen_agents: SocketAddr,
}

/// Runs `pintail-operator`: until SIGTERM or SIGINT, which is success, or until it can no longer lead, which is not.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Err(cause) = logging::start() {
        eprintln!("pintail-operator: {cause}");
        return ExitCode::FAILURE;
    }
    match start(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(cause) => {
            tracing::error!("{cause}");
            ExitCode::FAILURE
        }
    }
}

fn start(arguments: &Arguments) -> Result<(), String> {
    let settings = read_settings(&arguments.settings)?;
    let location = parse_location(&settings.store.uri).map_err(|error| error.to_string())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start threads: {error}"))?;
    let result = runtime.block_on(run(arguments, settings, &location));
    // Whatever still runs, such as a request that hangs, does not hold the end up.
    runtime.shutdown_background();
    result
}

fn read_settings(path: &Path) -> Result<Settings, String> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        format!("cannot read the settings {}: {error}; give their file by --settings", path.display())
    })?;
    Settings::parse(&text).map_err(|error| format!("cannot use the settings {}: {error}", path.display()))
}

async fn run(arguments: &Arguments, settings: Settings, location: &StoreLocation) -> Result<(), String> {
    let stop = stop_on_signals()?;
    let metrics = Metrics::new().map_err(|error| format!("cannot set up metrics: {error}"))?;
    let readiness = Readiness::default();
    let listen = arguments.listen;
    let address = http::serve(listen, readiness.clone(), metrics.clone(), CancellationToken::new())
        .await
        .map_err(|error| format!("cannot listen on {listen}: {error}; choose another address by --listen"))?;
    let client = connect(&metrics).await?;
    let (desk, listen) = (Desk::default(), arguments.listen_agents);
    let agents_address = agents::serve(listen, client.clone(), desk.clone())
        .await
        .map_err(|error| format!("cannot listen on {listen}: {error}; choose another address by --listen-agents"))?;
    let (checker, settings) = (checker(&settings)?, Arc::new(settings));
    let reviews = Admission { desk: desk.clone(), checker: checker.clone(), settings: Arc::clone(&settings) };
    review(arguments.listen_admission, &client, reviews).await?;
    let version = env!("CARGO_PKG_VERSION");
    tracing::info!(version, %address, %agents_address, store = settings.store.uri, "started");

    let Some(store) = stop.run_until_cancelled(prepare(&client, &settings, location, &readiness)).await else {
        return Ok(());
    };
    let identity = identity();
    let clock = Arc::new(SystemClock);
    let context = Context { client, store, clock, settings, metrics: metrics.clone(), desk, checker };
    let candidate =
        Candidate::new(context.client.clone(), &context.settings.namespace, identity.clone(), context.clock.clone());
    tracing::info!(identity, "ready; waiting for the lease");
    let ended = candidate
        .lead(&stop, |stop_work| {
            tracing::info!(identity, "leading");
            metrics.leads(true);
            // A task of its own: the work never keeps the lease from being renewed. It ends with the lease.
            let mut work = JoinSet::new();
            work.spawn(run_controllers(context, stop_work));
            async move { work.join_next().await }
        })
        .await;
    match ended {
        Leadership::Ended(Some(Some(Err(error)))) => Err(format!("the controllers ended: {error}")),
        Leadership::Ended(Some(Some(Ok(Err(error))))) => Err(format!("the controllers ended: {error}")),
        Leadership::Ended(Some(_)) if !stop.is_cancelled() => Err("the controllers ended unasked".to_owned()),
        Leadership::Ended(_) => {
            tracing::info!("stopped");
            Ok(())
        }
        Leadership::Lost(reason) => Err(format!("the lease {LEASE_NAME} is lost: {reason}; another replica may lead")),
    }
}

fn checker(settings: &Settings) -> Result<Option<Arc<dyn SqlChecker>>, String> {
    let Some(url) = &settings.checker.url else { return Ok(None) };
    Ok(Some(Arc::new(HttpChecker::new(url)?)))
}

/// Reviews objects from now on, where the installation asks for it: on every replica, whether it leads or not.
async fn review(listen: SocketAddr, client: &Client, admission: Admission) -> Result<(), String> {
    let Some(settings) = admission.settings.admission.clone() else { return Ok(()) };
    let (namespace, certificate) = (admission.settings.namespace.clone(), Arc::<Certificate>::default());
    tokio::spawn(watch_certificate(client.clone(), namespace, settings, Arc::clone(&certificate)));
    let served = admission::serve(listen, certificate, admission).await;
    let address = served
        .map_err(|error| format!("cannot listen on {listen}: {error}; choose another address by --listen-admission"))?;
    tracing::info!(%address, "objects are reviewed as they are applied");
    Ok(())
}

/// A token that SIGTERM and SIGINT cancel.
fn stop_on_signals() -> Result<CancellationToken, String> {
    let stop = CancellationToken::new();
    let handle = |kind| signal(kind).map_err(|error| format!("cannot handle signals: {error}"));
    let (mut terminate, mut interrupt) = (handle(SignalKind::terminate())?, handle(SignalKind::interrupt())?);
    let token = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping");
        token.cancel();
    });
    Ok(stop)
}

async fn connect(metrics: &Metrics) -> Result<Client, String> {
    let config = kube::Config::infer().await.map_err(|error| {
        let causes = causes(&error);
        format!("there is neither a service account of a pod nor a kubeconfig to reach Kubernetes with: {causes}")
    })?;
    let builder = ClientBuilder::try_from(config).map_err(|error| format!("cannot talk to Kubernetes: {error}"))?;
    Ok(builder.with_layer(&CountRequests(metrics.clone())).build())
}

/// Another name for every process that runs, the same for a container that is started anew: it need not wait for its own
/// lease.
fn identity() -> String {
    match (std::env::var("POD_NAME"), std::env::var("POD_UID")) {
        (Ok(name), Ok(uid)) => format!("{name}_{uid}"),
        _ => format!("process-{}_{}", std::process::id(), uuid::Uuid::new_v4()),
    }
}

/// Waits until all is there that the controllers work with: kinds and store. Meanwhile the reason stands in the log and at
/// `/readyz`.
async fn prepare(client: &Client, settings: &Settings, location: &StoreLocation, readiness: &Readiness) -> Store {
    let mut retry_after = FIRST_RETRY_AFTER;
    loop {
        match try_to_prepare(client, settings, location).await {
            Ok(store) => {
                readiness.set(Ok(()));
                return store;
            }
            Err(reason) => {
                tracing::warn!(retry_after_seconds = retry_after.as_secs(), "not ready: {reason}");
                readiness.set(Err(reason));
            }
        }
        tokio::time::sleep(retry_after).await;
        retry_after = LAST_RETRY_AFTER.min(retry_after * 2);
    }
}

async fn try_to_prepare(client: &Client, settings: &Settings, location: &StoreLocation) -> Result<Store, String> {
    check_kinds(client).await?;
    let uid = installation_uid(client, settings).await?;
    let store = Store::open(location).await.map_err(|error| error.to_string())?;
    match store.claim_installation(&uid).await.map_err(|error| error.to_string())? {
        Installation::Ours => Ok(store),
        Installation::Other(other) => Err(format!(
            "the store {} belongs to the installation {other}, and this one is {uid}: give each its own prefix; \
             if the other is gone for good, delete {}",
            settings.store.uri,
            store.uri("_installation"),
        )),
    }
}

/// Every kind must be served: anybody may ask which are.
async fn check_kinds(client: &Client) -> Result<(), String> {
    let served = match client.list_api_group_resources(API_VERSION).await {
        Ok(list) => list.resources.into_iter().map(|resource| resource.name).collect(),
        // Of a group that it does not know the API server says so in plain text, without a reason.
        Err(kube::Error::Api(status)) if status.code == 404 => Vec::new(),
        Err(error) => return Err(format!("cannot ask Kubernetes for the kinds of {API_VERSION}: {}", causes(&error))),
    };
    let wanted = definitions().into_iter().map(|definition| definition.spec.names.plural);
    let missing: Vec<String> = wanted.filter(|plural| !served.contains(plural)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let missing = missing.join(", ");
    Err(format!(
        "the cluster does not know {missing} of {API_VERSION}: install the chart with crds.install, or apply crds/"
    ))
}

/// What the store is claimed for: the cluster, or the operator's namespace where it may see no more than that.
async fn installation_uid(client: &Client, settings: &Settings) -> Result<String, String> {
    let name = match settings.scope {
        Scope::Cluster => CLUSTER_NAMESPACE,
        Scope::Namespaces(_) => &settings.namespace,
    };
    let namespace = Api::<Namespace>::all(client.clone()).get(name).await;
    let namespace = namespace.map_err(|error| format!("cannot read namespace {name}: {}", causes(&error)))?;
    namespace.uid().ok_or_else(|| format!("namespace {name} has no uid"))
}

/// An error with all that led to it: a client's own text says little more than that it failed.
pub(crate) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_cannot_be_used_are_named_with_their_file_and_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("settings.json");
        let cause = read_settings(&path).unwrap_err();
        assert!(cause.starts_with(&format!("cannot read the settings {}: No such file", path.display())), "{cause}");

        std::fs::write(&path, "{\"namespace\": \"pintail\",\n \"colour\": 1}").unwrap();
        let cause = read_settings(&path).unwrap_err();
        assert!(cause.contains("unknown field `colour`") && cause.contains("line 2"), "{cause}");
    }
}
