//! `pintail logs`: what the attempts of a run wrote.

use pintail_storage::layout;

use crate::arguments::Logs;
use crate::failure::CommandFailure;
use crate::place::Place;

pub async fn logs(arguments: Logs) -> Result<(), CommandFailure> {
    let records = match Place::open(&arguments.place).await? {
        Place::Store(records) => records,
        Place::Cluster(_) => return Err(CommandFailure::failed("logs of a cluster are not read yet")),
    };
    let execution = records.execution(&arguments.name).await?.execution;
    let status = execution.status.unwrap_or_default();
    let uid = execution.metadata.uid.unwrap_or_default();
    let wanted = |name: &str| arguments.task.as_deref().is_none_or(|task| task == name);
    let tasks: Vec<_> = status.task_list.iter().filter(|task| wanted(&task.name)).collect();
    if tasks.is_empty() {
        let names: Vec<_> = status.task_list.iter().map(|task| task.name.as_str()).collect();
        return Err(CommandFailure::usage(format!(
            "the run has no task {:?}; it has {}",
            arguments.task.unwrap_or_default(),
            names.join(", ")
        )));
    }
    for task in tasks {
        let log = records.store.read_log(layout::DEFAULT_NAMESPACE, &uid, &task.name).await?;
        for line in String::from_utf8_lossy(&log).lines() {
            println!("{}  {line}", task.name);
        }
    }
    Ok(())
}
