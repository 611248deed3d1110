//! What `pintail preview` shows of a cluster's data.

use std::collections::BTreeSet;

use kube::ResourceExt;
use pintail_api as api;
use pintail_protocol::{Preview as Rows, Read, StoredFile};

use crate::arguments::Preview;
use crate::cluster::Cluster;
use crate::cluster::reader::Reader;
use crate::commands::preview::{Shown, TABLE};
use crate::failure::CommandFailure;

/// Rows of a published version, of the newest of a dataset, or of a result of a run.
pub async fn preview(cluster: &Cluster, arguments: &Preview) -> Result<Shown, CommandFailure> {
    if arguments.part.is_none() {
        let artifacts = cluster.artifacts().await?;
        let named = artifacts.iter().find(|artifact| artifact.name_any() == arguments.name);
        if let Some(artifact) = named.or_else(|| pintail_execution::newest_artifact(&artifacts, &arguments.name, None))
        {
            return of_artifact(cluster, artifact, arguments).await;
        }
    }
    let execution = cluster.execution(&arguments.name).await?;
    of_run(cluster, &execution, arguments).await
}

async fn of_artifact(
    cluster: &Cluster,
    artifact: &api::Artifact,
    arguments: &Preview,
) -> Result<Shown, CommandFailure> {
    let spec = &artifact.spec;
    let producer = match &spec.produced_by {
        Some(producer) => cluster.find::<api::Execution>(&producer.execution).await?,
        None => None,
    };
    let reader = Reader::find(cluster, producer.as_ref()).await?;
    let key = reader.key(&spec.uri).ok_or_else(|| {
        CommandFailure::failed(format!(
            "{} has its data at {}, outside the store {}",
            artifact.name_any(),
            spec.uri,
            reader.store()
        ))
    })?;
    let file =
        StoredFile { key: key.to_owned(), bytes: u64::try_from(spec.bytes).unwrap_or(0), digest: spec.digest.clone() };
    let read = Read::Preview {
        files: vec![file],
        limit: arguments.limit,
        sql: arguments.sql.clone(),
        table: TABLE.to_owned(),
    };
    let what = format!("{} ({})", artifact.name_any(), spec.artifact);
    Ok(Shown { what, rows: spec.rows, table: ask(&reader, read).await? })
}

async fn of_run(cluster: &Cluster, execution: &api::Execution, arguments: &Preview) -> Result<Shown, CommandFailure> {
    let status = execution.status.clone().unwrap_or_default();
    let is_table = |output: &&api::OutputStatus| output.data_type == "table" && output.uri.is_some();
    let output = match &arguments.part {
        Some(part) => status.outputs.iter().filter(is_table).find(|output| output.name == *part),
        None => status.outputs.iter().find(is_table),
    };
    if let Some(published) = output.and_then(|output| output.artifact.as_ref())
        && let Some(artifact) = cluster.find(published).await?
    {
        return of_artifact(cluster, &artifact, arguments).await;
    }
    let named =
        status.task_list.iter().map(|task| task.name.as_str()).find(|name| arguments.part.as_deref() == Some(name));
    if output.is_none() && named.is_none() {
        return Err(no_table(execution, &status, arguments));
    }
    let reader = Reader::find(cluster, Some(execution)).await?;
    let key = output.and_then(|output| reader.key(output.uri.as_deref()?));
    let (uid, task) = match (key.and_then(run_task_of), named) {
        (Some((uid, task)), _) => (uid.to_owned(), task),
        (None, Some(task)) => (made_by(cluster, execution, task).await?, task),
        (None, None) => return Err(no_table(execution, &status, arguments)),
    };
    let read = Read::Committed {
        namespace: cluster.namespace().to_owned(),
        execution_uid: uid,
        task: task.to_owned(),
        file: key.map(str::to_owned),
        limit: arguments.limit,
        sql: arguments.sql.clone(),
        table: TABLE.to_owned(),
    };
    let rows = match output {
        Some(output) => output.rows,
        None => status.task_list.iter().find(|listed| listed.name == task).and_then(|listed| listed.rows),
    };
    let what = format!("{task} of {}", execution.name_any());
    Ok(Shown { what, rows: rows.unwrap_or(0), table: ask(&reader, read).await? })
}

/// Which task of which run wrote it: `<namespace>/runs/<uid>/<task>/…`.
fn run_task_of(key: &str) -> Option<(&str, &str)> {
    let mut parts = key.split('/').skip(1);
    if parts.next()? != "runs" {
        return None;
    }
    Some((parts.next()?, parts.next()?))
}

/// Uid of the run that made the result of a task: another one where it was taken over.
async fn made_by(cluster: &Cluster, execution: &api::Execution, task: &str) -> Result<String, CommandFailure> {
    let mut run = execution.clone();
    loop {
        let listed = run.status.as_ref().map(|status| status.task_list.as_slice()).unwrap_or_default();
        let taken_over = listed.iter().find(|listed| listed.name == task).and_then(|listed| listed.reused_from.clone());
        match taken_over {
            Some(before) if before != run.name_any() => run = cluster.execution(&before).await?,
            _ => return Ok(run.uid().unwrap_or_default()),
        }
    }
}

fn no_table(execution: &api::Execution, status: &api::ExecutionStatus, arguments: &Preview) -> CommandFailure {
    let outputs = status.outputs.iter().map(|output| output.name.as_str());
    let names: BTreeSet<&str> = outputs.chain(status.task_list.iter().map(|task| task.name.as_str())).collect();
    let wanted = arguments.part.as_deref().unwrap_or("table");
    CommandFailure::failed(format!(
        "run {} has no committed table {wanted:?}; it has: {}",
        execution.name_any(),
        names.into_iter().collect::<Vec<_>>().join(", ")
    ))
}

async fn ask(reader: &Reader<'_>, read: Read) -> Result<Rows, CommandFailure> {
    let answer = reader.ask(read).await?;
    serde_json::from_str(&answer)
        .map_err(|error| CommandFailure::failed(format!("the answer of the reader pod cannot be read: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_a_run_tells_the_run_and_its_task() {
        assert_eq!(run_task_of("data/runs/u-1/trends/a1/p/result.parquet"), Some(("u-1", "trends")));
        assert_eq!(run_task_of("data/artifacts/sales/x/a1/p/result.parquet"), None);
    }
}
