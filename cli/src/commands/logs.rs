//! `pintail logs`: what the attempts of a run wrote.

use pintail_api as api;
use pintail_storage::layout;

use crate::arguments::Logs;
use crate::cluster;
use crate::failure::CommandFailure;
use crate::local::records::Records;
use crate::place::Place;

pub async fn logs(arguments: Logs) -> Result<(), CommandFailure> {
    let place = Place::open(&arguments.place).await?;
    let execution = place.execution(&arguments.name).await?;
    let tasks = wanted_tasks(&execution, arguments.task.as_deref())?;
    match place {
        Place::Store(records) => stored(&records, &execution, &tasks).await,
        Place::Cluster(cluster) if arguments.follow => {
            cluster::logs::follow(&cluster, &execution, arguments.task.as_deref()).await
        }
        Place::Cluster(cluster) => cluster::logs::print(&cluster, &execution, &tasks).await,
    }
}

/// The tasks whose logs are asked for, in their order.
fn wanted_tasks(execution: &api::Execution, wanted: Option<&str>) -> Result<Vec<api::TaskStatus>, CommandFailure> {
    let listed = execution.status.as_ref().map(|status| status.task_list.as_slice()).unwrap_or_default();
    let Some(wanted) = wanted else { return Ok(listed.to_vec()) };
    let found: Vec<_> = listed.iter().filter(|task| task.name == wanted).cloned().collect();
    if found.is_empty() {
        let names: Vec<_> = listed.iter().map(|task| task.name.as_str()).collect();
        return Err(CommandFailure::usage(format!("the run has no task {wanted:?}; it has {}", names.join(", "))));
    }
    Ok(found)
}

async fn stored(
    records: &Records,
    execution: &api::Execution,
    tasks: &[api::TaskStatus],
) -> Result<(), CommandFailure> {
    let uid = execution.metadata.uid.clone().unwrap_or_default();
    for task in tasks {
        let log = records.store.read_log(layout::DEFAULT_NAMESPACE, &uid, &task.name).await?;
        for line in String::from_utf8_lossy(&log).lines() {
            println!("{}  {line}", task.name);
        }
    }
    Ok(())
}
