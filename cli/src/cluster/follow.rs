//! A run on a cluster, followed to its end.

use std::time::Duration;

use futures::{Stream, StreamExt, pin_mut};
use kube::ResourceExt;
use kube::runtime::{WatchStreamExt, watcher};
use pintail_api as api;
use tokio::signal::unix::Signal;
use tokio::time::Instant;

use crate::cluster::Cluster;
use crate::cluster::failure::Asked;
use crate::failure::{Code, CommandFailure};
use crate::progress::Progress;
use crate::render::ending;

/// How long after Ctrl-C another one still means this run.
const SECOND_PRESS: Duration = Duration::from_secs(3);
/// A server that is being upgraded is away for minutes. One that is away for longer may never come back.
const AWAY: Duration = Duration::from_secs(300);

/// Where a press of Ctrl-C leads.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pressed {
    Never,
    /// The terminal lets go of the run at that time.
    Once(Instant),
    /// The run is being cancelled; another press lets go of it.
    Twice,
}

/// Follows a run to its end, with its progress on standard error, and gives it as it then is. `interrupts` was made before
/// the run was, so that no Ctrl-C goes amiss.
///
/// # Errors
/// Where the run is deleted, the cluster goes away, `wait_timeout` is over, or Ctrl-C lets go of it.
pub async fn follow(
    cluster: &Cluster,
    execution: api::Execution,
    wait_timeout: Option<Duration>,
    mut interrupts: Signal,
) -> Result<api::Execution, CommandFailure> {
    let name = execution.name_any();
    let mut progress = Progress::default();
    progress.note(&format!("{}  {name}", execution.spec.workflow_ref.name));
    let deadline = wait_timeout.map(|timeout| Instant::now() + timeout);
    let states = states(cluster, &execution);
    pin_mut!(states);
    let mut pressed = Pressed::Never;
    loop {
        tokio::select! {
            state = states.next() => match state {
                Some(Ok(execution)) => {
                    execution.status.iter().for_each(|status| progress.show(status));
                    if ending(&execution).is_some() {
                        return Ok(execution);
                    }
                }
                Some(Err(failure)) => return Err(failure),
                None => return Err(CommandFailure::failed(format!("lost sight of run {name:?}"))),
            },
            Some(()) = interrupts.recv() => match pressed {
                Pressed::Never => {
                    progress.note(&format!("{}\nCtrl-C once more within {} s cancels it.",
                        goes_on(cluster, &name), SECOND_PRESS.as_secs()));
                    pressed = Pressed::Once(Instant::now() + SECOND_PRESS);
                }
                Pressed::Once(_) => {
                    cluster.cancel(&name).await?;
                    progress.note("Cancelling. Once more Ctrl-C lets go of it.");
                    pressed = Pressed::Twice;
                }
                Pressed::Twice => return Err(CommandFailure::shown(Code::Interrupted)),
            },
            () = until(if let Pressed::Once(at) = pressed { Some(at) } else { None }) => {
                return Err(CommandFailure::shown(Code::Interrupted));
            }
            () = until(deadline) => {
                let message = format!("run {name:?} has not ended in time\n{}", goes_on(cluster, &name));
                return Err(CommandFailure { code: Code::TimedOut, message });
            }
        }
    }
}

/// How to find a run again that goes on by itself.
pub fn goes_on(cluster: &Cluster, name: &str) -> String {
    let flags = cluster.flags();
    format!("{name} goes on.\nfollow: pintail watch{flags} {name}\ncancel: pintail cancel{flags} {name}")
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// The states of a run as they come. A server that goes away for a while is waited for.
pub fn states(
    cluster: &Cluster,
    execution: &api::Execution,
) -> impl Stream<Item = Result<api::Execution, CommandFailure>> + Send + use<> {
    let (name, uid) = (execution.name_any(), execution.uid());
    let cluster = cluster.clone();
    let events = watcher::watch_object(cluster.api::<api::Execution>(), &name).default_backoff();
    let mut away_since: Option<Instant> = None;
    events.filter_map(move |event| {
        let state = match event {
            Ok(found) => {
                away_since = None;
                let gone =
                    || CommandFailure::failed(format!("run {name:?} was deleted {}", cluster.location().within()));
                Some(found.filter(|execution| execution.uid() == uid).ok_or_else(gone))
            }
            Err(error) => {
                let since = *away_since.get_or_insert_with(Instant::now);
                lasting(&cluster, &name, &error, since.elapsed()).map(Err)
            }
        };
        futures::future::ready(state)
    })
}

/// What an error of the watch comes to: nothing, while it may pass.
fn lasting(cluster: &Cluster, name: &str, error: &watcher::Error, away: Duration) -> Option<CommandFailure> {
    let (verb, cause) = match error {
        watcher::Error::InitialListFailed(cause) => ("list", cause),
        watcher::Error::WatchStartFailed(cause) | watcher::Error::WatchFailed(cause) => ("watch", cause),
        watcher::Error::WatchError(_) | watcher::Error::NoResourceVersion => return None,
    };
    let refused = match cause {
        kube::Error::Api(status) => matches!(status.code, 401 | 403 | 404),
        kube::Error::SerdeError(_) | kube::Error::Auth(_) => true,
        _ => false,
    };
    let explain = || cluster.location().explain(&Asked::of::<api::Execution>(verb, Some(name)), cause);
    (refused || away > AWAY).then(explain)
}
