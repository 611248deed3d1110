//! PostgreSQL's errors, which DuckDB hands on as text without a class of its own.

use crate::failure::TaskFailure;

/// What libpq says when the server is gone or goes.
const CONNECTION_LOST: [&str; 10] = [
    "server closed the connection",
    "connection to server",
    "no connection to the server",
    "connection not open",
    "terminating connection",
    "could not receive data from server",
    "could not send data to server",
    "SSL connection has been closed",
    "database system is",
    "Unable to connect to Postgres",
];

const CONFLICT: [&str; 4] =
    ["could not serialize access", "deadlock detected", "due to lock timeout", "due to conflict with recovery"];

/// What no repeat mends: a value that its column cannot hold, a type that cannot be compared.
const CONVERSION: [&str; 6] =
    ["value too long", "out of range", "field overflow", "invalid input", "invalid byte sequence", "operator"];

/// The error of a statement, by its class. `attempt` says what was tried, such as `write shop.public.orders`. Only the
/// server's primary line is repeated: details hold values of rows, and DuckDB's own line holds the statement.
pub(super) fn failure(error: &duckdb::Error, attempt: &str) -> TaskFailure {
    match error {
        duckdb::Error::DuckDBFailure(_, Some(text)) => from_postgres(text, attempt),
        _ => None,
    }
    .unwrap_or_else(|| TaskFailure::from_duckdb(error, attempt))
}

fn from_postgres(text: &str, attempt: &str) -> Option<TaskFailure> {
    if CONNECTION_LOST.iter().any(|part| text.contains(part)) {
        let message = format!("could not {attempt}: the connection to the PostgreSQL server was lost");
        return Some(TaskFailure::infrastructure("ConnectionLost", message));
    }
    let primary = ["ERROR:  ", "FATAL:  "].iter().find_map(|severity| text.split_once(severity))?.1;
    let primary = primary.lines().next().unwrap_or_default();
    // `invalid input syntax for type json: "…"`
    let primary = primary.split_once(": \"").map_or(primary, |(before, _)| before);
    let message = format!("could not {attempt}: {primary}");
    let has = |part: &str| primary.contains(part);
    Some(if CONFLICT.iter().any(|part| has(part)) {
        TaskFailure::transient("TransactionConflict", message)
    } else if has("violates") {
        TaskFailure::permanent("ConstraintError", message)
    } else if CONVERSION.iter().any(|part| has(part)) {
        TaskFailure::permanent("ConversionError", message)
    } else if has("permission denied") || has("must be owner") || has("read-only transaction") {
        TaskFailure::permanent("AccessDenied", message)
    } else {
        TaskFailure::transient("PostgresError", message)
    })
}

#[cfg(test)]
mod tests {
    use pintail_protocol::FailureClass;

    use super::*;

    fn of(text: &str) -> TaskFailure {
        from_postgres(text, "write p.public.t").unwrap()
    }

    #[test]
    fn a_lost_connection_is_not_the_tasks_fault() {
        let text = "TransactionContext Error: Failed to commit: Failed to execute query \"COMMIT\": server closed the \
                    connection unexpectedly\n\tThis probably means";
        assert_eq!((of(text).class, of(text).reason), (FailureClass::Infrastructure, "ConnectionLost"));
    }

    #[test]
    fn a_conflict_may_be_tried_again() {
        let text = "Failed to execute query \"UPDATE t SET x = 1\": ERROR:  could not serialize access due to concurrent update\n";
        assert_eq!((of(text).class, of(text).reason), (FailureClass::Transient, "TransactionConflict"));
    }

    #[test]
    fn details_and_statements_stay_out_because_they_hold_values() {
        let text = "Failed to copy data: ERROR:  duplicate key value violates unique constraint \"t_pkey\"\n\
                    DETAIL:  Key (id)=(4711) already exists.\nCONTEXT:  COPY t, line 1\n";
        let failure = of(text);
        assert_eq!((failure.class, failure.reason), (FailureClass::Permanent, "ConstraintError"));
        assert_eq!(
            failure.message,
            "could not write p.public.t: duplicate key value violates unique constraint \"t_pkey\""
        );
        assert!(!of("x: ERROR:  invalid input syntax for type json: \"Jane\"").message.contains("Jane"));
    }

    #[test]
    fn other_texts_are_duckdbs() {
        assert_eq!(from_postgres("Catalog Error: Table with name x does not exist!", "x"), None);
    }
}
