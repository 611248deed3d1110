//! What a test gives: inputs, and tables of attached databases.

use pintail_api as api;

use super::PlannedTable;
use crate::Rule;
use crate::compile::{check_columns, check_rows};
use crate::input::bind;
use crate::model::{BindingValue, Contract, InputKind, InputValue, Plan, PlannedInput, Surroundings};
use crate::problem::{FieldPath, Problem, listing, nearest};

/// Binds the inputs of the part that runs. Every table that it reads is given, or has rows as its default.
pub(super) fn inputs(
    spec: &api::WorkflowTestSpec,
    plan: &Plan,
    part: &Plan,
    path: &FieldPath,
    problems: &mut Vec<Problem>,
) -> Vec<(String, InputValue)> {
    let known = || plan.inputs.iter().map(|input| input.name.as_str());
    for name in spec.given.inputs.keys().filter(|name| !known().any(|known| known == name.as_str())) {
        let message = format!("workflow `{}` has no input `{name}`; it has {}", plan.workflow, listing(known()));
        let near = nearest(name, known()).map(|near| format!("`{near}`"));
        problems.push(Problem::new(Rule::UnknownInput, path.field(name), message).suggest(near));
    }
    // What is given for tasks that do not run is checked all the same.
    for input in plan.inputs.iter().filter(|input| !part.inputs.iter().any(|other| other.name == input.name)) {
        if let Some(Err(found)) = spec.given.inputs.get(&input.name).map(|given| bind_given(input, given, path)) {
            problems.extend(found);
        }
    }
    let mut bound = Vec::new();
    for input in &part.inputs {
        let value = match spec.given.inputs.get(&input.name) {
            Some(given) => bind_given(input, given, path),
            None => bind_default(input, part, path),
        };
        match value {
            Ok(value) => bound.push((input.name.clone(), value)),
            Err(found) => problems.extend(found),
        }
    }
    bound
}

fn bind_given(input: &PlannedInput, given: &api::Binding, path: &FieldPath) -> Result<InputValue, Vec<Problem>> {
    let path = path.field(&input.name);
    let value = bind(input, Some(given), &path)?;
    if let Some(InputValue::Table(source)) = &value {
        let outside = [("connection", source.connection.is_some()), ("artifact", source.artifact.is_some())];
        if let Some((field, _)) = outside.into_iter().find(|(_, is_there)| *is_there) {
            let message = "a test reads nothing outside: give `rows`, or a file by `uri`";
            return Err(vec![Problem::new(Rule::TableSource, path.field(field), message)]);
        }
    }
    value.ok_or_else(Vec::new)
}

fn bind_default(input: &PlannedInput, part: &Plan, path: &FieldPath) -> Result<InputValue, Vec<Problem>> {
    let default = match (&input.kind, &input.default) {
        (InputKind::Table { .. }, Some(InputValue::Table(source))) if source.rows.is_none() => None,
        _ => bind(input, None, path)?,
    };
    default.ok_or_else(|| {
        let name = &input.name;
        let (message, example) = match &input.kind {
            InputKind::Scalar(_) => {
                (format!("input `{name}` has no default, and the test gives no value"), format!("`{name}: …`"))
            }
            InputKind::Table { .. } => {
                let reads = |task: &&crate::PlannedTask| {
                    task.bindings.iter().any(|it| matches!(&it.value, BindingValue::InputTable(table) if table == name))
                };
                let readers = listing(part.tasks.iter().filter(reads).map(|task| task.name.as_str()));
                let message = format!("{readers} reads the table `{name}`, and the test does not give it");
                (message, format!("`{name}: {{ rows: [ … ] }}`"))
            }
        };
        vec![Problem::new(Rule::MissingInput, path.clone(), message).suggest(Some(example))]
    })
}

pub(super) fn tables(
    spec: &api::WorkflowTestSpec,
    workflow: &api::Workflow,
    plan: &Plan,
    surroundings: &Surroundings,
    path: &FieldPath,
    problems: &mut Vec<Problem>,
) -> Vec<PlannedTable> {
    let mut tables = Vec::new();
    for (name, given) in &spec.given.tables {
        match table(name, given, (workflow, plan, surroundings), &path.field(name)) {
            Ok(table) => tables.push(table),
            Err(found) => problems.extend(found),
        }
    }
    tables
}

fn table(
    name: &str,
    given: &api::GivenTable,
    (workflow, plan, surroundings): (&api::Workflow, &Plan, &Surroundings),
    path: &FieldPath,
) -> Result<PlannedTable, Vec<Problem>> {
    let one = |rule, path: &FieldPath, message: String| vec![Problem::new(rule, path.clone(), message)];
    let parts: Vec<&str> = name.split('.').collect();
    let (connection, schema, table) = match parts.as_slice() {
        [connection, table] if !table.is_empty() => (*connection, None, *table),
        [connection, schema, table] if !schema.is_empty() && !table.is_empty() => {
            (*connection, Some((*schema).to_owned()), *table)
        }
        _ => {
            let message =
                format!("`{name}` is no table: write `<connection>.<table>` or `<connection>.<schema>.<table>`");
            return Err(one(Rule::UnknownTable, path, message));
        }
    };
    let is_database = |name: &str| {
        surroundings.connections.get(name).is_some_and(|it| it.spec.duckdb.is_some() || it.spec.postgres.is_some())
    };
    let used = plan.tasks.iter().flat_map(|task| &task.connections).map(|it| it.name.as_str());
    let mut databases: Vec<&str> = used.filter(|name| is_database(name)).collect();
    databases.sort_unstable();
    databases.dedup();
    if !databases.contains(&connection) {
        let message = format!(
            "no task of workflow `{}` reads or writes a database `{connection}`; they use {}",
            plan.workflow,
            listing(databases.iter().copied())
        );
        let near = nearest(connection, databases.iter().copied()).map(|near| format!("`{near}.{table}`"));
        return Err(vec![Problem::new(Rule::UnknownConnection, path.clone(), message).suggest(near)]);
    }
    match (given.rows.is_some(), given.uri.is_some()) {
        (true, false) | (false, true) => {}
        _ => return Err(one(Rule::TableSource, path, "a table has one source: set `rows` or `uri`".to_owned())),
    }
    let columns = match &given.columns {
        Some(columns) => Some(check_columns(columns, workflow, surroundings, path)?),
        None => listed_columns(connection, schema.as_deref(), table, surroundings, path)?,
    };
    let contract = columns.map(|columns| Contract { columns, other_columns: api::OtherColumns::Drop });
    if let Some(rows) = &given.rows {
        if contract.is_none() {
            let message = format!(
                "rows need the types of their columns: give `columns` here, or list the table under `tables` of \
                 Connection `{}`",
                connection.replace('_', "-")
            );
            return Err(one(Rule::InvalidContract, path, message));
        }
        let found = check_rows(rows, contract.as_ref(), &path.field("rows"));
        if !found.is_empty() {
            return Err(found);
        }
    }
    let source = api::TableSource {
        rows: given.rows.clone(),
        uri: given.uri.clone(),
        format: given.format,
        options: given.options.clone(),
        ..api::TableSource::default()
    };
    Ok(PlannedTable { connection: connection.to_owned(), schema, table: table.to_owned(), source, contract })
}

/// The columns that the Connection lists for the table; none where it lists no tables at all.
fn listed_columns(
    connection: &str,
    schema: Option<&str>,
    table: &str,
    surroundings: &Surroundings,
    path: &FieldPath,
) -> Result<Option<Vec<api::Column>>, Vec<Problem>> {
    let Some(listed) = surroundings.connections.get(connection).and_then(|it| it.spec.tables.as_ref()) else {
        return Ok(None);
    };
    let is_it = |name: &str| match (name.split_once('.'), schema) {
        (Some((its, name)), Some(schema)) => name.eq_ignore_ascii_case(table) && its.eq_ignore_ascii_case(schema),
        (None, None) => name.eq_ignore_ascii_case(table),
        _ => false,
    };
    let Some(found) = listed.iter().find(|listed| is_it(&listed.name)) else {
        let known = || listed.iter().map(|listed| listed.name.as_str());
        let message = format!(
            "Connection `{}` lists no table `{table}`; it lists {}. If it is there, give its `columns`",
            connection.replace('_', "-"),
            listing(known())
        );
        let near = nearest(table, known()).map(|near| format!("`{connection}.{near}`"));
        return Err(vec![Problem::new(Rule::UnknownTable, path.clone(), message).suggest(near)]);
    };
    let column = |column: &api::TableColumn| api::Column {
        name: column.name.clone(),
        data_type: column.data_type.clone(),
        nullable: None,
        source: None,
        sensitive: column.sensitive,
    };
    Ok(Some(found.columns.iter().map(column).collect()))
}
