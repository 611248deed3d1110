//! `pintail diff`.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;

use kube::ResourceExt;
use pintail_execution::{
    ColumnChange, DatasetChange, Datasets, Publishers, Reader, dataset_changes, publishers, readers,
};
use serde_json::{Value, json};

use crate::arguments::{Diff, DiffOutput};
use crate::check::{check_sql, check_sql_against};
use crate::failure::{Code, CommandFailure};
use crate::manifests::Manifests;
use crate::output::{print_json, print_text};

/// Version of the JSON; it grows only where a field changes its meaning or goes.
const JSON_VERSION: u32 = 1;

/// What workflows publish and read.
struct Promises {
    workflows: BTreeSet<String>,
    publishers: Publishers,
    readers: Vec<Reader>,
}

pub fn diff(arguments: &Diff) -> Result<(), CommandFailure> {
    let old = promises(&arguments.old, &Datasets::new())?;
    // What readers need now is told by the columns that there were: by those that there are now, it may be gone already.
    let before = old.publishers.iter().filter_map(|(name, it)| Some((name.clone(), it.shape.clone()?))).collect();
    let new = promises(&arguments.new, &before)?;
    // A reader counts as it is now; one that is not there now counts as it was, since it may still run.
    let gone = old.readers.into_iter().filter(|reader| !new.workflows.contains(&reader.workflow));
    let readers: Vec<Reader> = new.readers.into_iter().chain(gone).collect();
    let changes = dataset_changes(&old.publishers, &new.publishers, &new.workflows, &readers);
    match arguments.output {
        DiffOutput::Text => print_text(&as_text(&changes)),
        DiffOutput::Json => print_json(&as_json(&changes))?,
    }
    let refused = changes.iter().filter(|change| change.is_refused()).count();
    if refused == 0 {
        let count = changes.len();
        eprintln!("{count} {} changed, no reader breaks", if count == 1 { "dataset" } else { "datasets" });
        return Ok(());
    }
    eprintln!(
        "{refused} {} readers: keep the columns, change the readers first, or say `contract: Break` at the output",
        if refused == 1 { "dataset breaks its" } else { "datasets break their" }
    );
    Err(CommandFailure::shown(Code::Failed))
}

/// `before` are columns of datasets as readers know them.
fn promises(path: &Path, before: &Datasets) -> Result<Promises, CommandFailure> {
    let manifests = Manifests::read_right(&[path.to_path_buf()])?;
    let checked = check_sql(&manifests)?;
    let mut promises = Promises { workflows: BTreeSet::new(), publishers: Publishers::new(), readers: Vec::new() };
    for checked in &checked.workflows {
        promises.workflows.insert(checked.workflow.name_any());
        promises.publishers.extend(publishers(checked.workflow, &checked.plan, &checked.results));
    }
    for checked in check_sql_against(&manifests, before)?.workflows {
        promises.readers.extend(readers(&checked.plan, &checked.lineage));
    }
    Ok(promises)
}

fn as_text(changes: &[DatasetChange]) -> String {
    let mut text = String::new();
    for change in changes {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{}", heading(change));
        for column in &change.columns {
            let _ = writeln!(text, "  {}{}", column_text(column), broken_text(&column.broken));
        }
        if !change.broken.is_empty() {
            let _ = writeln!(text, "  no version of it will follow{}", broken_text(&change.broken));
        }
    }
    text
}

fn heading(change: &DatasetChange) -> String {
    let name = &change.dataset;
    match &change.publisher {
        None => format!("{name}, not published any more"),
        Some(it) if change.is_unknown => {
            format!("{name}, published by {}: not compared, its columns are not known before a run", it.workflow)
        }
        Some(it) if it.breaks => format!("{name}, published by {}, contract: Break", it.workflow),
        Some(it) => format!("{name}, published by {}", it.workflow),
    }
}

fn column_text(column: &ColumnChange) -> String {
    match (&column.before, &column.now) {
        (Some(before), Some(now)) => format!("~ {} {before} -> {now}", column.name),
        (Some(before), None) => format!("- {} {before}", column.name),
        (None, now) => format!("+ {} {}", column.name, now.as_deref().unwrap_or_default()),
    }
}

fn broken_text(readers: &[Reader]) -> String {
    let names: Vec<String> =
        readers.iter().map(|reader| format!("{} (input {})", reader.workflow, reader.input)).collect();
    if names.is_empty() { String::new() } else { format!("  breaks {}", names.join(", ")) }
}

fn as_json(changes: &[DatasetChange]) -> Value {
    let reader = |reader: &Reader| json!({ "workflow": reader.workflow, "input": reader.input });
    let list = |readers: &[Reader]| readers.iter().map(reader).collect::<Vec<_>>();
    let column = |column: &ColumnChange| {
        json!({
            "column": column.name,
            "before": column.before,
            "now": column.now,
            "breaks": list(&column.broken),
        })
    };
    let change = |change: &DatasetChange| {
        json!({
            "dataset": change.dataset,
            "workflow": change.publisher.as_ref().map(|it| &it.workflow),
            "output": change.publisher.as_ref().map(|it| &it.output),
            "known": !change.is_unknown,
            "refused": change.is_refused(),
            "breaks": list(&change.broken),
            "columns": change.columns.iter().map(column).collect::<Vec<_>>(),
        })
    };
    json!({ "version": JSON_VERSION, "datasets": changes.iter().map(change).collect::<Vec<_>>() })
}
