//! `pintail sql`: a task's tables, parameters and connections, at a prompt.

use kube::ResourceExt;
use pintail_protocol::AccessMode;
use pintail_task_runner::session::Session;
use rustyline::error::ReadlineError;

use crate::arguments::Sql;
use crate::failure::CommandFailure;
use crate::local::start::RestoredRun;
use crate::output::{print_table, print_text};

/// A prompt is for looking; who wants all rows writes a task.
const ROWS_SHOWN: usize = 200;

pub async fn sql(arguments: Sql) -> Result<(), CommandFailure> {
    let records = arguments.store.open().await?;
    let stored = records.execution(&arguments.run).await?;
    let name = stored.execution.name_any();
    let restored = RestoredRun::read(&records, stored).await?;
    let tasks: Vec<&str> = restored.run.plan.tasks.iter().map(|task| task.name.as_str()).collect();
    if !tasks.contains(&arguments.task.as_str()) {
        return Err(CommandFailure::usage(format!(
            "run {name} has no task {:?}; it has {}",
            arguments.task,
            tasks.join(", ")
        )));
    }
    let mut order = restored
        .run
        .order(&arguments.task, restored.manifests.connections())
        .map_err(|failure| CommandFailure::failed(format!("task {}: {}", arguments.task, failure.message)))?;
    // A prompt is for looking: what it can do, a repeated run must not notice.
    order.connections.iter_mut().for_each(|connection| connection.mode = AccessMode::Read);
    let scratch = tempfile::tempdir().map_err(CommandFailure::failed)?;
    let session = pintail_task_runner::explore(&order, scratch.path(), restored.manifests.secrets().clone())
        .await
        .map_err(|failure| CommandFailure::failed(format!("task {}: {}", arguments.task, failure.message)))?;
    match arguments.command {
        Some(query) => ask(&session, &query),
        None => {
            for relation in &order.relations {
                eprintln!("table {}", relation.name);
            }
            for connection in &order.connections {
                eprintln!("connection {}", connection.name);
            }
            for parameter in &order.parameters {
                eprintln!("${} {}", parameter.name, parameter.data_type);
            }
            prompt(&session, &arguments.task)
        }
    }
}

fn ask(session: &Session, query: &str) -> Result<(), CommandFailure> {
    let table = session.text_rows(query, &[], ROWS_SHOWN).map_err(|failure| CommandFailure::failed(failure.message))?;
    let header: Vec<&str> = table.columns.iter().map(|column| column.name.as_str()).collect();
    let cell = |cell: Option<String>| cell.unwrap_or_else(|| "NULL".to_owned());
    let shown = table.rows.len();
    print_table(&header, table.rows.into_iter().map(|row| row.into_iter().map(cell).collect()));
    if shown == ROWS_SHOWN {
        eprintln!("only the first {ROWS_SHOWN} rows are shown");
    }
    Ok(())
}

/// Reads statements, each up to its semicolon, until the end of input.
fn prompt(session: &Session, task: &str) -> Result<(), CommandFailure> {
    let mut editor = rustyline::DefaultEditor::new().map_err(CommandFailure::failed)?;
    let mut statement = String::new();
    loop {
        let mark = if statement.is_empty() {
            format!("{task}> ")
        } else {
            format!("{:width$}> ", "…", width = task.chars().count())
        };
        match editor.readline(&mark) {
            Ok(line) => {
                statement.push_str(&line);
                statement.push('\n');
                if !line.trim_end().ends_with(';') {
                    continue;
                }
                // Where the history cannot be kept, the prompt still works.
                let _ = editor.add_history_entry(statement.trim_end());
                if let Err(failure) = ask(session, &std::mem::take(&mut statement)) {
                    eprintln!("error: {}", failure.message);
                }
            }
            Err(ReadlineError::Interrupted) => statement.clear(),
            Err(ReadlineError::Eof) => {
                print_text("\n");
                return Ok(());
            }
            Err(error) => return Err(CommandFailure::failed(error)),
        }
    }
}
