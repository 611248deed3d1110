//! What a checker is asked about a workflow, and its findings as problems of the manifest.

use std::collections::{BTreeMap, BTreeSet};

use pintail_api as api;
use pintail_engine::TaskIndex;
use pintail_plan as plan;
use pintail_plan::expression::{Expression, Scope, ScopeName};
use pintail_plan::{BindingValue, FieldPath, InputKind, InputValue, Plan, PlannedTask, PlannedWork, Problem, Rule};
use pintail_protocol as protocol;
use pintail_protocol::{
    ChartField, CheckPlace, CheckRequest, CheckRule, CheckWork, Finding, OtherColumns, ParameterType, ResultColumn,
    TableOrigin, TableShape,
};

use crate::connection::connection_target;
use crate::contract::{Publishers, broken_readers, publishers};
use crate::lineage::{MASKING, trace};
use crate::order::{contract_of, json_type};
use crate::run::Connections;
use crate::scope::MAIN_RESULT;
use crate::sensitive::{sensitive_problems, values_of};

/// The newest known columns of datasets, by name.
pub type Datasets = BTreeMap<String, TableShape>;

/// The request that checks a plan's SQL. `datasets` are those whose columns are known. Its masking functions are
/// [`MASKING`].
#[must_use]
pub fn check_request(plan: &Plan, connections: &Connections, datasets: &Datasets) -> CheckRequest {
    let used: BTreeSet<&str> =
        plan.tasks.iter().flat_map(|task| &task.connections).map(|connection| connection.name.as_str()).collect();
    let databases = used.into_iter().filter_map(|name| database(name, &connections.get(name)?.spec));
    let others = connections.iter().filter_map(|(name, connection)| database(name, &connection.spec));
    let mut all: BTreeMap<String, protocol::CheckDatabase> = others.map(|it| (it.name.clone(), it)).collect();
    all.extend(databases.map(|it| (it.name.clone(), it)));
    let input = |input: &plan::PlannedInput| match &input.kind {
        InputKind::Table { contract } => Some(protocol::CheckInput {
            name: input.name.clone(),
            shape: input_shape(contract.as_ref(), dataset_of(input).and_then(|name| datasets.get(name))),
        }),
        InputKind::Scalar(_) => None,
    };
    let is_scalar = |input: &&plan::PlannedInput| matches!(input.kind, InputKind::Scalar(_));
    CheckRequest {
        format: protocol::FORMAT,
        databases: all.into_values().collect(),
        inputs: plan.inputs.iter().filter_map(input).collect(),
        scalars: plan.inputs.iter().filter(is_scalar).map(|input| input.name.clone()).collect(),
        tasks: in_order(plan).into_iter().map(|task| check_task(plan, task, connections)).collect(),
        masking: MASKING.map(str::to_owned).to_vec(),
    }
}

/// The dataset that an input takes where a run says nothing.
#[must_use]
pub fn dataset_of(input: &plan::PlannedInput) -> Option<&str> {
    match &input.default {
        Some(InputValue::Table(source)) => source.artifact.as_deref(),
        _ => None,
    }
}

/// The datasets that a plan publishes, with the columns that were found.
#[must_use]
pub fn published(plan: &Plan, response: &protocol::CheckResponse) -> Datasets {
    let mut datasets = Datasets::new();
    for output in &plan.outputs {
        let (Some(publish), plan::OutputValue::Result(task, result)) = (&output.publish, &output.value) else {
            continue;
        };
        let Some(task) = plan.tasks.get(task.0 as usize) else { continue };
        let found = response.results.iter().find(|it| it.task == task.name && it.output == *result);
        if let Some(shape) = found.and_then(|found| found.shape.clone()) {
            datasets.insert(publish.artifact.clone(), shape);
        }
    }
    datasets
}

/// What was found of a workflow and its SQL, next to what is known of the others.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Judgement {
    /// Why it cannot run.
    pub problems: Vec<Problem>,
    /// Where datasets are not as its contracts say.
    pub broken: Vec<Problem>,
    /// What could not be checked.
    pub notes: Vec<Problem>,
    /// What it publishes.
    pub publishers: Publishers,
    /// Where the columns of its results come from.
    pub lineage: Vec<protocol::ResultLineage>,
}

/// What a checker's response means for a workflow.
#[must_use]
pub fn judge(
    workflow: &api::Workflow,
    plan: &Plan,
    connections: &Connections,
    others: (&Datasets, &Publishers),
    response: &protocol::CheckResponse,
) -> Judgement {
    let (datasets, publishers_around) = others;
    let found = check_problems(workflow, &response.findings);
    let (notes, mut problems): (Vec<Problem>, Vec<Problem>) = found.into_iter().partition(|it| it.rule.is_note());
    let lineage = trace(plan, connections, &response.lineage);
    problems.extend(sensitive_problems(workflow, plan, connections, &lineage));
    Judgement {
        problems,
        broken: broken_readers(workflow, plan, datasets, publishers_around),
        notes,
        publishers: publishers(workflow, plan, &response.results),
        lineage,
    }
}

/// The problem with the line and column, from 1, of its place in the text of its field, where that has several lines or
/// words: what stands in an object has no file.
#[must_use]
pub fn placed(workflow: &api::Workflow, config_maps: &plan::ConfigMaps, problem: &Problem) -> Problem {
    let place = problem.offset.and_then(|offset| {
        let text = text_at(workflow, config_maps, &problem.path)?;
        let before = text.get(..offset)?;
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        Some((before.matches('\n').count() + 1, before[line_start..].chars().count() + 1))
    });
    let Some((line, column)) = place else { return problem.clone() };
    Problem { message: format!("line {line}, column {column}: {}", problem.message), ..problem.clone() }
}

/// The text of a field of a workflow, or of the ConfigMap that the field names.
fn text_at(workflow: &api::Workflow, config_maps: &plan::ConfigMaps, path: &FieldPath) -> Option<String> {
    use plan::Segment::{Field, Index};
    if let [Field(_), Field(_), Index(task), Field(_), Field(from), ..] = path.segments()
        && from == "queryFrom"
    {
        let from = workflow.spec.tasks.get(*task)?.duckdb.as_ref()?.query_from.as_ref()?;
        let reference = &from.config_map_key_ref;
        return config_maps.get(&reference.name)?.get(&reference.key).cloned();
    }
    let mut value = &serde_json::to_value(workflow).ok()?;
    for segment in path.segments() {
        value = match segment {
            Field(name) => value.get(name)?,
            Index(index) => value.get(index)?,
        };
    }
    value.as_str().map(str::to_owned)
}

fn database(name: &str, spec: &api::ConnectionSpec) -> Option<protocol::CheckDatabase> {
    let kind = match spec {
        api::ConnectionSpec { duckdb: Some(_), .. } => protocol::DatabaseKind::DuckDb,
        api::ConnectionSpec { postgres: Some(_), .. } => protocol::DatabaseKind::Postgres,
        _ => return None,
    };
    let column =
        |column: &api::TableColumn| ResultColumn { name: column.name.clone(), data_type: column.data_type.clone() };
    let table = |table: &api::ConnectionTable| protocol::DatabaseTable {
        name: table.name.clone(),
        columns: table.columns.iter().map(column).collect(),
    };
    let tables = spec.tables.as_ref().map(|tables| tables.iter().map(table).collect());
    Some(protocol::CheckDatabase { name: name.to_owned(), kind, tables })
}

/// A contract says all; without one an input has what its dataset has.
fn input_shape(contract: Option<&plan::Contract>, dataset: Option<&TableShape>) -> Option<TableShape> {
    let Some(contract) = contract.map(contract_of) else { return dataset.cloned() };
    let named = |column: &protocol::ContractColumn| ResultColumn {
        name: column.name.clone(),
        data_type: column.data_type.clone(),
    };
    let mut columns: Vec<ResultColumn> = contract.columns.iter().map(named).collect();
    let keeps = contract.other_columns == OtherColumns::Keep;
    if let Some(dataset) = dataset.filter(|_| keeps) {
        let is_new = |column: &&ResultColumn| {
            !contract.columns.iter().any(|wanted| wanted.name.eq_ignore_ascii_case(&column.name))
        };
        columns.extend(dataset.columns.iter().filter(is_new).cloned());
    }
    Some(TableShape { columns, open: keeps && dataset.is_none_or(|dataset| dataset.open) })
}

/// Tasks after those that they need, else as in the manifest. A plan has no cycles.
fn in_order(plan: &Plan) -> Vec<&PlannedTask> {
    let mut done = vec![false; plan.tasks.len()];
    let mut ordered = Vec::new();
    while ordered.len() < plan.tasks.len() {
        let before = ordered.len();
        for (index, task) in plan.tasks.iter().enumerate() {
            let needs = plan.graph.tasks.get(index).map(|node| node.needs.as_slice()).unwrap_or_default();
            let is_free = needs.iter().all(|need| done.get(need.task.0 as usize).copied().unwrap_or(true));
            if !done[index] && is_free {
                done[index] = true;
                ordered.push(task);
            }
        }
        if ordered.len() == before {
            break;
        }
    }
    ordered
}

fn check_task(plan: &Plan, task: &PlannedTask, connections: &Connections) -> protocol::CheckTask {
    let name_of = |index: &TaskIndex| plan.tasks.get(index.0 as usize).map_or("", |task| &task.name).to_owned();
    let (mut tables, mut parameters) = (Vec::new(), Vec::new());
    for binding in &task.bindings {
        let name = binding.name.clone();
        let origin = match &binding.value {
            BindingValue::InputTable(input) => TableOrigin::Input(input.clone()),
            BindingValue::TaskTable(task, output) => {
                TableOrigin::Result { task: name_of(task), output: output.clone() }
            }
            BindingValue::LoadedTable { task, .. } => TableOrigin::Loaded { task: name_of(task) },
            BindingValue::TaskFile(_) => continue,
            BindingValue::Scalar { expression, data_type } => {
                parameters.push(parameter(plan, name, expression, data_type.as_ref()));
                continue;
            }
        };
        tables.push(protocol::CheckTable { name, origin });
    }
    let mut databases = Vec::new();
    for used in &task.connections {
        let Some(connection) = connections.get(&used.name) else { continue };
        if database(&used.name, &connection.spec).is_some() {
            databases.push((used.name.clone(), used.writes));
        } else if let Ok(protocol::ConnectionTarget::Secrets(values)) = connection_target(&used.name, &connection.spec)
        {
            parameters.extend(values.into_keys().map(|name| protocol::CheckParameter {
                name,
                data_type: ParameterType::Known("VARCHAR".to_owned()),
                example: None,
                is_named: false,
                columns: Vec::new(),
            }));
        }
    }
    protocol::CheckTask { name: task.name.clone(), tables, parameters, databases, work: work(task) }
}

fn parameter(
    plan: &Plan,
    name: String,
    expression: &Expression,
    data_type: Option<&plan::DataType>,
) -> protocol::CheckParameter {
    let reference = expression.as_reference();
    let path: Vec<&str> = reference.iter().flat_map(|it| &it.path).map(String::as_str).collect();
    let scope = reference.map(|reference| reference.scope);
    let known = |name: &str| ParameterType::Known(name.to_owned());
    let mut example = None;
    let data_type = match (data_type, scope, path.as_slice()) {
        (Some(data_type), _, _) => {
            let input = path.first().and_then(|name| plan.inputs.iter().find(|input| input.name == **name));
            if let Some(Some(InputValue::Scalar(value))) = input.map(|input| &input.default) {
                example = Some(value.clone());
            }
            known(&data_type.0)
        }
        (None, Some(ScopeName::Execution), _) => known("VARCHAR"),
        (None, Some(ScopeName::Tasks), [task, column]) => task_value(plan, task, MAIN_RESULT, column),
        (None, Some(ScopeName::Tasks), [task, output, column]) if *output != "load" => {
            task_value(plan, task, output, column)
        }
        (None, Some(ScopeName::Tasks), [_, "load", "rows" | "inserted" | "updated"]) => known("BIGINT"),
        (None, None, _) if expression.references().is_empty() => match expression.evaluate(&Scope::default()) {
            Ok(value) => {
                let data_type = known(&json_type(&value));
                example = Some(value);
                data_type
            }
            Err(_) => ParameterType::Unknown,
        },
        _ => ParameterType::Unknown,
    };
    protocol::CheckParameter { name, data_type, example, is_named: true, columns: values_of(plan, expression) }
}

/// The type of `tasks.<task>.<output>.<column>`.
fn task_value(plan: &Plan, task: &str, output: &str, column: &str) -> ParameterType {
    let planned = plan.tasks.iter().find(|planned| planned.name == task);
    let result = planned.and_then(|planned| planned.results.iter().find(|result| result.name == output));
    match result.map(|result| result.kind) {
        Some(plan::ResultKind::Values) => {
            ParameterType::Column { task: task.to_owned(), output: output.to_owned(), column: column.to_owned() }
        }
        _ if matches!(column, "rows" | "bytes" | "files") => ParameterType::Known("BIGINT".to_owned()),
        _ if column == "uri" => ParameterType::Known("VARCHAR".to_owned()),
        _ => ParameterType::Unknown,
    }
}

fn work(task: &PlannedTask) -> CheckWork {
    match &task.work {
        PlannedWork::DuckDb { setup, queries, load } => CheckWork::DuckDb {
            setup: setup.clone(),
            queries: queries.iter().map(|(output, sql)| query(task, output, sql)).collect(),
            load: load.as_deref().map(check_load).map(Box::new),
        },
        PlannedWork::Report { charts, .. } => CheckWork::Columns(
            charts.iter().enumerate().flat_map(|(index, (chart, _))| chart_columns(index, chart)).collect(),
        ),
        _ => CheckWork::Columns(Vec::new()),
    }
}

fn query(task: &PlannedTask, output: &str, sql: &str) -> protocol::CheckQuery {
    let result = task.results.iter().find(|result| result.name == output);
    protocol::CheckQuery {
        output: output.to_owned(),
        sql: sql.to_owned(),
        kind: match result.map(|result| result.kind) {
            Some(plan::ResultKind::Values) => protocol::OutputKind::Values,
            _ => protocol::OutputKind::Table,
        },
        contract: result.and_then(|result| result.contract.as_ref()).map(contract_of),
    }
}

fn check_load(load: &plan::PlannedLoad) -> protocol::Load {
    let overlap = |overlap| match overlap {
        plan::PlannedOverlap::Duration(duration) => {
            protocol::Overlap::DurationMs(u64::try_from(std::time::Duration::as_millis(&duration)).unwrap_or(u64::MAX))
        }
        plan::PlannedOverlap::Number(number) => protocol::Overlap::Number(number),
    };
    protocol::Load {
        connection: load.connection.clone(),
        schema: load.schema.clone(),
        table: load.table.clone(),
        mode: match load.mode {
            api::LoadMode::Append => protocol::LoadMode::Append,
            api::LoadMode::Replace => protocol::LoadMode::Replace,
            api::LoadMode::Upsert => protocol::LoadMode::Upsert,
        },
        key: load.key.clone(),
        prefer: load.prefer.clone().map(|(column, descending)| protocol::OrderTerm { column, descending }),
        stamp: load.stamp.clone(),
        watermark: load.watermark.as_ref().map(|watermark| protocol::Watermark {
            column: watermark.column.clone(),
            overlap: watermark.overlap.map(overlap),
            until: None,
            bind: watermark.bind.clone(),
        }),
    }
}

fn chart_columns(index: usize, chart: &api::Chart) -> Vec<protocol::NamedColumn> {
    let named = |column: &String, field: ChartField| protocol::NamedColumn {
        table: chart.table.clone(),
        column: column.clone(),
        must_be_number: matches!(field, ChartField::Y(_)),
        place: CheckPlace::Chart(index, field),
    };
    let ys = chart.y_columns.iter().enumerate().map(|(position, column)| named(column, ChartField::Y(position)));
    let color = chart.color_column.iter().map(|column| named(column, ChartField::Color));
    std::iter::once(named(&chart.x_column, ChartField::X)).chain(ys).chain(color).collect()
}

/// Findings as problems of the workflow's manifest, at the fields that they are about. Of a query in a ConfigMap the
/// place is the field that names it, and the offset one in its text.
#[must_use]
pub fn check_problems(workflow: &api::Workflow, findings: &[Finding]) -> Vec<Problem> {
    findings.iter().map(|finding| problem(workflow, finding)).collect()
}

fn problem(workflow: &api::Workflow, finding: &Finding) -> Problem {
    let position = workflow.spec.tasks.iter().position(|task| task.name == finding.task).unwrap_or_default();
    let path = FieldPath::root().field("spec").field("tasks").index(position);
    let path = match workflow.spec.tasks.get(position) {
        Some(task) => path_in(task, path, &finding.place),
        None => path,
    };
    let problem = Problem::new(rule(finding.rule), path, finding.message.clone()).suggest(finding.suggestion.clone());
    match finding.offset {
        Some(offset) => problem.at(offset),
        None => problem,
    }
}

fn path_in(task: &api::Task, path: FieldPath, place: &CheckPlace) -> FieldPath {
    let duckdb = path.field("duckdb");
    let load = duckdb.field("load");
    let output = |name: &str| {
        let outputs = task.duckdb.iter().flat_map(|duckdb| &duckdb.outputs);
        let position = outputs.into_iter().position(|output| output.name == name);
        position.map_or_else(|| duckdb.clone(), |position| duckdb.field("outputs").index(position))
    };
    let in_list = |list: &str, names: &[String], name: &str| {
        names.iter().position(|it| it == name).map(|position| path.field(list).index(position))
    };
    match place {
        CheckPlace::Setup(position) => duckdb.field("setup").index(*position),
        CheckPlace::Query(name) if name == MAIN_RESULT => {
            match task.duckdb.as_ref().is_some_and(|duckdb| duckdb.query_from.is_some()) {
                true => duckdb.field("queryFrom").field("configMapKeyRef").field("key"),
                false => duckdb.field("query"),
            }
        }
        CheckPlace::Query(name) => output(name).field("query"),
        CheckPlace::ContractColumn(name, position) => output(name).field("columns").index(*position).field("type"),
        CheckPlace::Binding(name) => {
            in_list("uses", &task.uses, name).unwrap_or_else(|| path.field("with").field(name))
        }
        CheckPlace::Database(name) => in_list("reads", &task.reads, name)
            .or_else(|| in_list("writes", &task.writes, name))
            .unwrap_or_else(|| path.field("reads")),
        CheckPlace::LoadInto => load.field("into"),
        CheckPlace::LoadKey(position) => load.field("key").index(*position),
        CheckPlace::LoadPrefer => load.field("prefer"),
        CheckPlace::LoadStamp => load.field("stamp"),
        CheckPlace::WatermarkColumn => load.field("watermark").field("column"),
        CheckPlace::WatermarkBind => load.field("watermark").field("bind"),
        CheckPlace::Chart(index, field) => {
            let chart = path.field("report").field("charts").index(*index);
            match field {
                ChartField::X => chart.field("xColumn"),
                ChartField::Y(position) => chart.field("yColumns").index(*position),
                ChartField::Color => chart.field("colorColumn"),
            }
        }
    }
}

fn rule(rule: CheckRule) -> Rule {
    match rule {
        CheckRule::Syntax => Rule::SqlSyntax,
        CheckRule::OneStatement => Rule::OneStatement,
        CheckRule::StatementNotAllowed => Rule::StatementNotAllowed,
        CheckRule::UnknownTable => Rule::UnknownTable,
        CheckRule::UnknownColumn => Rule::UnknownColumn,
        CheckRule::UnknownFunction => Rule::UnknownFunction,
        CheckRule::UnknownType => Rule::InvalidType,
        CheckRule::ArgumentTypes => Rule::ArgumentTypes,
        CheckRule::ComparedTypes => Rule::ComparedTypes,
        CheckRule::Grouping => Rule::Grouping,
        CheckRule::AmbiguousColumn => Rule::AmbiguousColumn,
        CheckRule::UnknownParameter => Rule::UnknownParameter,
        CheckRule::UnusedParameter => Rule::UnusedParameter,
        CheckRule::UndeclaredDatabase => Rule::UndeclaredConnection,
        CheckRule::BrokenContract => Rule::BrokenContract,
        CheckRule::WrongColumnType => Rule::WrongColumnType,
        CheckRule::Invalid => Rule::InvalidSql,
        CheckRule::NotChecked => Rule::NotChecked,
    }
}
