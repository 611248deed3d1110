//! The order's relations as views: what SQL sees under the names of inputs and tasks.

use std::borrow::Cow;

use pintail_protocol::{Contract, FormatOptions, Relation, RelationSource, ResultColumn, StoredFile, TableFormat};
use serde_json::Value;

use crate::contract::{self, FILE_COLUMN, Projection};
use crate::failure::TaskFailure;
use crate::parameter;
use crate::scan::{Scan, format_of};
use crate::session::Session;
use crate::sql;
use crate::workspace::SourceFile;

/// Creates the view (for rows, the table) of a relation, after its contract has been checked.
///
/// # Errors
/// `NotFound`, `EmptyFile`, `UnknownFormat`, `ContractViolated`, or DuckDB's error by its class.
pub(crate) fn create(session: &Session, relation: &Relation) -> Result<(), TaskFailure> {
    let contract = relation.contract.as_ref().map(|it| contract::canonical(session, it)).transpose()?;
    let contract = contract.as_ref();
    let name = sql::identifier(&relation.name);
    let body = match &relation.source {
        RelationSource::Committed { files } => committed(session, files, contract)?,
        RelationSource::Files { path, format, options, .. } => {
            files(session, &relation.name, path, *format, options, contract)?
        }
        RelationSource::Uri { uri, format, options, .. } => {
            files(session, &relation.name, uri, *format, options, contract)?
        }
        RelationSource::DatabaseTable { connection, table } => {
            format!("SELECT * FROM {}", sql::table(connection, table))
        }
        RelationSource::Rows { rows } => return create_rows(session, &name, rows, contract),
    };
    session.batch(&format!("CREATE VIEW {name} AS {body}"), "read it")
}

/// A path for DuckDB's readers, which take globs, so that it means itself.
pub(crate) fn glob_literal(location: &str) -> Cow<'_, str> {
    if location.starts_with("http://") || location.starts_with("https://") || !location.contains(['*', '?', '[']) {
        return Cow::Borrowed(location);
    }
    let mut escaped = String::new();
    for character in location.chars() {
        match character {
            '*' | '?' | '[' => escaped.extend(['[', character, ']']),
            other => escaped.push(other),
        }
    }
    Cow::Owned(escaped)
}

fn committed(session: &Session, files: &[StoredFile], contract: Option<&Contract>) -> Result<String, TaskFailure> {
    let staged = files.iter().map(|file| {
        let path = session.workspace().staged.get(&file.key).ok_or_else(|| {
            TaskFailure::infrastructure("NotStaged", format!("the object {} was not brought here", file.key))
        })?;
        let identity =
            pintail_protocol::FileIdentity { path: file.key.clone(), bytes: file.bytes, version: file.digest.clone() };
        Ok(SourceFile { identity, location: path.to_string_lossy().into_owned() })
    });
    let files = staged.collect::<Result<Vec<_>, TaskFailure>>()?;
    read(
        session,
        &Scan { format: TableFormat::Parquet, options: &FormatOptions::default(), committed: true },
        &files,
        contract,
    )
}

fn files(
    session: &Session,
    relation: &str,
    pattern: &str,
    format: Option<TableFormat>,
    options: &FormatOptions,
    contract: Option<&Contract>,
) -> Result<String, TaskFailure> {
    let files = session.workspace().found.get(relation).map(Vec::as_slice).unwrap_or_default();
    let Some(first) = files.first() else {
        return Err(TaskFailure::permanent("NotFound", format!("no file matches {pattern}")));
    };
    let format = format.or_else(|| format_of(&first.identity.path)).ok_or_else(|| {
        TaskFailure::permanent(
            "UnknownFormat",
            format!(
                "the name of {} does not tell its format: set `format` to Parquet, CSV or JSON",
                first.identity.path
            ),
        )
    })?;
    if let Some(empty) = files.iter().find(|file| file.identity.bytes == 0) {
        let message = format!(
            "file {} is empty: a table without rows has a header line of its columns, or is Parquet",
            empty.identity.path
        );
        return Err(TaskFailure::permanent("EmptyFile", message));
    }
    read(session, &Scan { format, options, committed: false }, files, contract)
}

/// The SELECT over files, with the contract's columns where there is a contract.
fn read(
    session: &Session,
    scan: &Scan<'_>,
    files: &[SourceFile],
    contract: Option<&Contract>,
) -> Result<String, TaskFailure> {
    let Some(contract) = contract else {
        return Ok(format!("SELECT * FROM {}", scan.detecting(files)));
    };
    let mut parts = Vec::new();
    for group in groups(session, scan, files, contract)? {
        let source = scan.reading(&group.files, &group.columns, group.projection.needs_file_name());
        check_nulls(session, scan, &group, contract)?;
        parts.push(format!("SELECT {} FROM {source}", group.projection.select_list()));
    }
    Ok(parts.join(" UNION ALL BY NAME "))
}

/// Files with the same columns, which one reader call takes.
struct Group<'a> {
    columns: Vec<ResultColumn>,
    projection: Projection,
    files: Vec<&'a SourceFile>,
}

fn groups<'a>(
    session: &Session,
    scan: &Scan<'_>,
    files: &'a [SourceFile],
    contract: &Contract,
) -> Result<Vec<Group<'a>>, TaskFailure> {
    let mut groups: Vec<Group<'a>> = Vec::new();
    for file in files {
        let columns = scan.columns(session, file, contract)?;
        if let Some(group) = groups.iter_mut().find(|group| group.columns == columns) {
            group.files.push(file);
        } else {
            let projection = contract::project(contract, &columns, &format!("file {}", file.identity.path))?;
            groups.push(Group { columns, projection, files: vec![file] });
        }
    }
    Ok(groups)
}

/// Refuses NULL in columns that are not nullable, before anything is computed from them.
fn check_nulls(session: &Session, scan: &Scan<'_>, group: &Group<'_>, contract: &Contract) -> Result<(), TaskFailure> {
    let strict: Vec<_> = contract.columns.iter().filter(|c| !c.nullable && !c.from_file_name).collect();
    if strict.is_empty() || scan.footers_show_no_null(session, &group.files, &strict) {
        return Ok(());
    }
    let source = scan.reading(&group.files, &group.columns, true);
    let counts: Vec<_> = strict.iter().map(|c| format!("count(*) - count({})", sql::identifier(&c.name))).collect();
    let query = format!("SELECT {FILE_COLUMN}, {} FROM {source} GROUP BY ALL", counts.join(", "));
    let fail = |error: duckdb::Error| TaskFailure::from_duckdb(&error, "read it").without_position();
    let mut statement = session.connection().prepare(&query).map_err(fail)?;
    let mut rows = statement.query([]).map_err(fail)?;
    while let Some(row) = rows.next().map_err(fail)? {
        for (index, column) in strict.iter().enumerate() {
            let nulls: i64 = row.get(index + 1).map_err(fail)?;
            if nulls > 0 {
                let location: String = row.get(0).map_err(fail)?;
                let file = group.files.iter().find(|file| file.location == location);
                let path = file.map_or(location.as_str(), |file| &file.identity.path);
                return Err(null_violation(&column.name, &format!("file {path}"), nulls));
            }
        }
    }
    Ok(())
}

pub(crate) fn null_violation(column: &str, object: &str, nulls: i64) -> TaskFailure {
    TaskFailure::permanent(
        "ContractViolated",
        format!("{object} breaks its contract: column `{column}` is not nullable, but {nulls} of its values are NULL"),
    )
}

fn create_rows(
    session: &Session,
    name: &str,
    rows: &[Vec<Value>],
    contract: Option<&Contract>,
) -> Result<(), TaskFailure> {
    let columns = contract.map(|it| it.columns.as_slice()).unwrap_or_default();
    if columns.is_empty() {
        return Err(TaskFailure::permanent("InvalidContract", "rows need columns with types"));
    }
    let definitions: Vec<_> = columns
        .iter()
        .map(|c| format!("{} {}{}", sql::identifier(&c.name), c.data_type, if c.nullable { "" } else { " NOT NULL" }))
        .collect();
    session.batch(&format!("CREATE TABLE {name} ({})", definitions.join(", ")), "make its table")?;
    for (index, row) in rows.iter().enumerate() {
        let place = |failure: TaskFailure| failure.without_position().on(&format!("row {}", index + 1));
        if row.len() != columns.len() {
            let message = format!("{} values are given for {} columns", row.len(), columns.len());
            return Err(place(TaskFailure::permanent("ContractViolated", message)));
        }
        let values: Vec<_> =
            columns.iter().zip(row).map(|(c, value)| parameter::literal(&c.data_type, value)).collect();
        session.batch(&format!("INSERT INTO {name} VALUES ({})", values.join(", ")), "read it").map_err(place)?;
    }
    Ok(())
}
