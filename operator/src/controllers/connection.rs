//! Connections: validated, never opened. Their secrets are only named.

use std::sync::Arc;

use kube::ResourceExt;
use kube::core::DynamicObject;
use pintail_api as api;
use pintail_plan::{Problem, check_connection, check_connection_on_cluster};

use super::error::ReconcileError;
use super::event::{self, Happened};
use super::object::{Said, conditions, decode, quarantine, ready_conditions, write_status};
use super::unit::Unit;
use super::work_queue::Action;

pub async fn reconcile(unit: Arc<Unit>, object: Arc<DynamicObject>) -> Result<Action, ReconcileError> {
    let objects = unit.api(&unit.connections, &object.namespace().unwrap_or_default());
    let now = unit.context.clock.now();
    let connection: api::Connection = match decode(&object) {
        Ok(connection) => connection,
        Err(cause) => {
            quarantine(&objects, &object, &cause, now).await?;
            return Ok(Action::await_change());
        }
    };
    let problems = problems(&connection.spec);
    let said = said(&problems);
    let (reason, message) = (said.0, said.1.as_str());
    let said = Said { reason, message, generation: connection.metadata.generation, now };
    let status = api::ConnectionStatus {
        observed_generation: connection.metadata.generation,
        conditions: ready_conditions(&conditions(&object), problems.is_empty(), &said),
        kind: kind(&connection.spec).map(str::to_owned),
    };
    if write_status(&objects, &object, &status).await?.is_some() && !problems.is_empty() {
        event::record(&unit.context, &object, &invalid(connection.metadata.generation, message)).await;
    }
    Ok(Action::await_change())
}

fn problems(spec: &api::ConnectionSpec) -> Vec<Problem> {
    check_connection(spec).into_iter().chain(check_connection_on_cluster(spec)).collect()
}

/// What the condition says of these problems.
pub fn said(problems: &[Problem]) -> (api::ConditionReason, String) {
    if problems.is_empty() {
        return (api::ConditionReason::Valid, String::new());
    }
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    (api::ConditionReason::Invalid, lines.join("\n"))
}

pub fn invalid(generation: Option<i64>, message: &str) -> Happened {
    Happened {
        reason: "Invalid",
        action: "Validate",
        warning: true,
        note: message.to_owned(),
        key: generation.unwrap_or_default().to_string(),
    }
}

fn kind(spec: &api::ConnectionSpec) -> Option<&'static str> {
    let kinds = [
        (spec.folder.is_some(), "folder"),
        (spec.s3.is_some(), "s3"),
        (spec.http.is_some(), "http"),
        (spec.duckdb.is_some(), "duckdb"),
        (spec.postgres.is_some(), "postgres"),
        (spec.smtp.is_some(), "smtp"),
        (spec.webhook.is_some(), "webhook"),
        (spec.secrets.is_some(), "secrets"),
    ];
    kinds.into_iter().find(|(is_there, _)| *is_there).map(|(_, kind)| kind)
}
