//! A run under way, as it is recorded.

use std::collections::BTreeMap;

use pintail_execution::{BoundInput, Reusable, Run, RunRecord, bound_from_resolved};
use pintail_protocol::TaskReport;

use super::Subject;
use super::history::{committed_of, committed_reports};
use super::memory::Driven;
use super::start::{find_execution, reused_uids, run_context};
use crate::controllers::error::{ReconcileError, failure_words, is_passing};
use crate::controllers::revision;
use crate::controllers::unit::Unit;
use crate::controllers::workflow::pinned_plan;

/// Builds the run anew from what was pinned and recorded; `Ok(Err)` says why that cannot be done.
pub async fn restore(unit: &Unit, subject: &Subject) -> Result<Result<Driven, String>, ReconcileError> {
    let status = subject.execution.status.clone().unwrap_or_default();
    let Some(resolved) = &status.resolved else { return Ok(Err("status.resolved is missing".to_owned())) };
    let revision = match revision::read(&unit.context.client, &subject.namespace, &resolved.revision).await? {
        Ok(Some(revision)) => revision,
        Ok(None) => {
            return Ok(Err(format!("ControllerRevision {} is gone, which the run is pinned to", resolved.revision)));
        }
        Err(cause) => return Ok(Err(cause)),
    };
    let connections = unit.connections_of(&subject.namespace).await;
    let plan = match pinned_plan(&revision.workflow(), revision.config_maps, connections) {
        Ok(plan) => plan,
        Err(problems) => {
            let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
            return Ok(Err(format!("what the run is pinned to is not understood:\n{}", lines.join("\n"))));
        }
    };
    let inputs: Option<Vec<BoundInput>> = resolved.inputs.iter().map(bound_from_resolved).collect();
    let Some(inputs) = inputs else { return Ok(Err("status.resolved.inputs cannot be read".to_owned())) };
    let Some(start_time) = status.start_time.as_deref().and_then(|time| time.parse().ok()) else {
        return Ok(Err("status.startTime cannot be read".to_owned()));
    };
    let record = match status.state.as_deref().map(RunRecord::decode) {
        Some(Ok(record)) => record,
        Some(Err(error)) => return Ok(Err(format!("status.state: {error}"))),
        None => return Ok(Err("status.state is missing".to_owned())),
    };
    let reports = match committed_reports(&unit.context.store, &record, false).await {
        Ok(reports) => reports,
        Err(ReconcileError::Store(error)) if !is_passing(&error) => return Ok(Err(error.to_string())),
        Err(error) => return Err(error),
    };
    let reports: BTreeMap<String, TaskReport> =
        reports.into_iter().map(|(task, result)| (task, result.report)).collect();
    let reusable = reusable(unit, subject, &resolved.reuses).await?;
    let context = run_context(unit, subject, start_time);
    Ok(match Run::restore(plan, context, inputs, reusable, record, reports) {
        Ok(run) => Ok(Driven::new(run, subject.object.clone(), status, unit.context.clock.now())),
        Err(failure) => Err(failure_words(&failure)),
    })
}

/// What the retried run committed, if it is still there: without it, the tasks are done anew. Another run may have its name
/// by now: what is not among the pinned `reuses` is not taken over.
async fn reusable(unit: &Unit, subject: &Subject, reuses: &[String]) -> Result<Reusable, ReconcileError> {
    let Some(retry) = &subject.execution.spec.retry_of else { return Ok(Reusable::new()) };
    let reusable = match find_execution(unit, &subject.namespace, &retry.execution).await? {
        Some(Ok(retried)) => committed_of(&unit.context.store, &retried, &subject.namespace).await?,
        _ => Reusable::new(),
    };
    Ok(if is_pinned(&reused_uids(&reusable), reuses) { reusable } else { Reusable::new() })
}

fn is_pinned(found: &[String], pinned: &[String]) -> bool {
    found.iter().all(|uid| pinned.contains(uid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_run_of_the_same_name_is_not_the_one_that_was_pinned() {
        let uids = |uids: &[&str]| uids.iter().map(|uid| (*uid).to_owned()).collect::<Vec<_>>();
        assert!(is_pinned(&uids(&["u1"]), &uids(&["u0", "u1"])));
        assert!(!is_pinned(&uids(&["u1", "u2"]), &uids(&["u0", "u1"])));
    }
}
