//! From a planned task and what the run knows to a whole work order.

use std::collections::BTreeMap;
use std::sync::Arc;

use pintail_api as api;
use pintail_plan as plan;
use pintail_plan::expression::Scope;
use pintail_plan::{BindingValue, InputKind, PlannedTask, PlannedWork};
use pintail_protocol as protocol;
use pintail_protocol::{Failure, FailureClass, RelationSource, ReportOutcome, StoredFile, TaskReport};
use serde_json::Value;

use crate::connection::connection_target;
use crate::input::BoundSource;
use crate::name;
use crate::run::Run;
use crate::scope::{MAIN_RESULT, key_of};

/// Why no order can be made: an expression that fails on this run's values, a connection that is gone.
fn failure(reason: &str, message: impl ToString) -> Failure {
    Failure { class: FailureClass::Permanent, reason: reason.to_owned(), message: message.to_string() }
}

fn expression_failure(error: plan::expression::EvaluateError) -> Failure {
    failure("ExpressionFailed", error)
}

/// Builds the order of one attempt. `connections` are those of the moment, by SQL name.
///
/// # Errors
/// Permanent failures: expressions that fail, connections that are not there.
pub(crate) fn work_order(
    run: &Run,
    task: usize,
    attempt: u32,
    connections: &BTreeMap<String, Arc<api::Connection>>,
) -> Result<protocol::WorkOrder, Failure> {
    let planned = run.plan.tasks.get(task).ok_or_else(|| failure("UnknownTask", format!("task {task}")))?;
    let builder = Builder { run, planned, scope: run.scope(), connections };
    let (relations, parameters, files) = builder.bindings()?;
    let work = builder.work()?;
    let connections = builder.connections(&relations)?;
    let mut order = protocol::WorkOrder {
        format: protocol::FORMAT,
        identity: protocol::Identity {
            namespace: run.context.namespace.clone(),
            execution: run.context.name.clone(),
            execution_uid: run.context.uid.clone(),
            execution_start: run.context.start_time,
            workflow: run.plan.workflow.clone(),
            revision: run.plan.revision.clone(),
            task: planned.name.clone(),
            item: None,
            attempt,
        },
        store: run.context.store.clone(),
        relations,
        parameters,
        files,
        connections,
        work,
        outputs: builder.outputs()?,
        resources: protocol::Resources {
            cpu_millis: planned.resources.cpu_millis,
            memory_bytes: planned.resources.memory_bytes,
            scratch_bytes: planned.resources.scratch_bytes,
        },
        reuse_key: String::new(),
        reuse: None,
    };
    order.reuse_key = reuse_key(&order, &builder.loads());
    order.reuse = run.reusable(&planned.name, &order.reuse_key).filter(|_| may_reuse(&order.work));
    Ok(order)
}

struct Builder<'a> {
    run: &'a Run,
    planned: &'a PlannedTask,
    scope: Scope,
    connections: &'a BTreeMap<String, Arc<api::Connection>>,
}

type Bindings = (Vec<protocol::Relation>, Vec<protocol::Parameter>, Vec<protocol::FileBinding>);

impl Builder<'_> {
    fn render(&self, template: &plan::expression::Template) -> Result<String, Failure> {
        template.render(&self.scope).map_err(expression_failure)
    }

    fn bindings(&self) -> Result<Bindings, Failure> {
        let (mut relations, mut parameters, mut files) = Bindings::default();
        for binding in &self.planned.bindings {
            let name = binding.name.clone();
            match &binding.value {
                BindingValue::InputTable(input) => relations.push(self.input_relation(name, input)?),
                BindingValue::TaskTable(task, output) => {
                    let files = self.table_files(task.0 as usize, output)?;
                    relations.push(relation(name, RelationSource::Committed { files }));
                }
                BindingValue::LoadedTable { connection, table, .. } => {
                    let source = RelationSource::DatabaseTable { connection: connection.clone(), table: table.clone() };
                    relations.push(relation(name, source));
                }
                BindingValue::TaskFile(task) => {
                    files.push(protocol::FileBinding { name, file: self.file(task.0 as usize)? });
                }
                BindingValue::Scalar { expression, data_type } => {
                    let value = expression.evaluate(&self.scope).map_err(expression_failure)?;
                    let data_type = match data_type {
                        Some(known) => known.0.clone(),
                        None => self.type_of(&expression.source, &value),
                    };
                    parameters.push(protocol::Parameter { name, data_type, value });
                }
            }
        }
        Ok((relations, parameters, files))
    }

    /// A value of a `kind: Values` task keeps the type that its query gave it; others have that of their JSON.
    fn type_of(&self, source: &str, value: &Value) -> String {
        let mut parts = source.trim().split('.');
        let reference = (parts.next(), parts.next(), parts.next(), parts.next());
        let (Some("tasks"), Some(task), Some(column), None) = reference else { return json_type(value) };
        let rows = self.run.succeeded(task).map(|results| results.values.as_slice()).unwrap_or_default();
        let main = rows.iter().find(|row| row.name == MAIN_RESULT);
        main.and_then(|row| row.values.iter().find(|value| value.name == column))
            .map_or_else(|| json_type(value), |value| value.data_type.clone())
    }

    fn input_relation(&self, name: String, input: &str) -> Result<protocol::Relation, Failure> {
        let missing = || failure("InputMissing", format!("input {input:?} is not bound"));
        let bound = self.run.inputs.iter().find(|bound| bound.name == input).ok_or_else(missing)?;
        let planned = self.run.plan.inputs.iter().find(|planned| planned.name == input).ok_or_else(missing)?;
        let contract = match &planned.kind {
            InputKind::Table { contract } => contract.as_ref().map(contract_of),
            InputKind::Scalar(_) => None,
        };
        let source = match &bound.source {
            BoundSource::Scalar(_) => return Err(missing()),
            BoundSource::Table(source) => self.source(input, source, contract.as_ref())?,
            BoundSource::Artifact { uri, bytes, digest, name } => {
                let key = key_of(&self.run.context.store, uri).ok_or_else(|| {
                    let text = format!("artifact {name:?} has its data at {uri}, outside the store of this run");
                    failure("OtherStore", text)
                })?;
                RelationSource::Committed { files: vec![StoredFile { key, bytes: *bytes, digest: digest.clone() }] }
            }
        };
        Ok(protocol::Relation { name, source, contract })
    }

    fn source(
        &self,
        input: &str,
        source: &api::TableSource,
        contract: Option<&protocol::Contract>,
    ) -> Result<RelationSource, Failure> {
        let pinned = self.run.pins.get(input).cloned();
        let format = source.format.map(format_of);
        let options = options_of(source.options.as_ref());
        if let (Some(connection), Some(path)) = (&source.connection, &source.path) {
            let template = plan::expression::Template::parse(path).map_err(|errors| {
                let messages: Vec<String> = errors.into_iter().map(|error| error.message).collect();
                failure("ExpressionFailed", format!("path of input {input:?}: {}", messages.join("; ")))
            })?;
            let path = self.render(&template)?;
            return Ok(RelationSource::Files { connection: connection.clone(), path, format, options, pinned });
        }
        if let Some(uri) = &source.uri {
            return Ok(RelationSource::Uri { uri: uri.clone(), format, options, pinned });
        }
        let rows = source.rows.as_deref().unwrap_or_default();
        let contract = contract
            .ok_or_else(|| failure("ContractMissing", format!("input {input:?} is given rows but has no columns")))?;
        Ok(RelationSource::Rows { rows: rows.iter().map(|row| row_values(row, contract)).collect() })
    }

    /// For each table that a load of this run wrote: the run whose load it was. A table has no digest, but a load that
    /// was taken over left it as it was.
    fn loads(&self) -> Vec<(&str, &str)> {
        let loaded = self.planned.bindings.iter().filter_map(|binding| match &binding.value {
            BindingValue::LoadedTable { task, .. } => Some((binding.name.as_str(), *task)),
            _ => None,
        });
        loaded
            .filter_map(|(name, task)| {
                let report = self.run.report(task)?;
                Some((name, report.reused_from.as_deref().unwrap_or(&report.identity.execution)))
            })
            .collect()
    }

    fn table_files(&self, task: usize, output: &str) -> Result<Vec<StoredFile>, Failure> {
        let results = self.run.results(task);
        let table = results.and_then(|results| results.tables.iter().find(|table| table.name == output));
        table.map(|table| table.files.clone()).ok_or_else(|| self.no_result(task))
    }

    fn file(&self, task: usize) -> Result<StoredFile, Failure> {
        let results = self.run.results(task);
        let file = results.and_then(|results| results.files.first());
        file.map(|file| file.file.clone()).ok_or_else(|| self.no_result(task))
    }

    fn no_result(&self, task: usize) -> Failure {
        let name = self.run.plan.tasks.get(task).map_or("?", |task| task.name.as_str());
        failure("ResultMissing", format!("task {name:?} has no such result"))
    }

    fn connections(&self, relations: &[protocol::Relation]) -> Result<Vec<protocol::Connection>, Failure> {
        let mut modes: BTreeMap<&str, protocol::AccessMode> = BTreeMap::new();
        for relation in relations {
            if let RelationSource::Files { connection, .. } = &relation.source {
                modes.insert(connection, protocol::AccessMode::Read);
            }
        }
        for used in &self.planned.connections {
            let mode = if used.writes { protocol::AccessMode::Write } else { protocol::AccessMode::Read };
            let held = modes.entry(&used.name).or_insert(mode);
            if used.writes {
                *held = protocol::AccessMode::Write;
            }
        }
        let resolve = |(name, mode): (&str, protocol::AccessMode)| {
            let found = self.connections.get(name).ok_or_else(|| {
                failure("ConnectionMissing", format!("there is no Connection {:?}", name.replace('_', "-")))
            })?;
            let target = connection_target(name, &found.spec).map_err(|error| failure("ConnectionInvalid", error))?;
            Ok(protocol::Connection { name: name.to_owned(), mode, target })
        };
        modes.into_iter().map(resolve).collect()
    }

    fn outputs(&self) -> Result<Vec<protocol::OutputTarget>, Failure> {
        let target = |result: &plan::PlannedResult| {
            let destination = match result.published_by.and_then(|index| self.run.published(index)) {
                Some(published) => protocol::Destination::Artifact {
                    dataset: published.dataset.clone(),
                    artifact_id: published.name.clone(),
                },
                None => protocol::Destination::Run,
            };
            protocol::OutputTarget {
                name: result.name.clone(),
                kind: match result.kind {
                    plan::ResultKind::Table => protocol::OutputKind::Table,
                    plan::ResultKind::Values => protocol::OutputKind::Values,
                    plan::ResultKind::File => protocol::OutputKind::File,
                },
                destination,
                contract: result.contract.as_ref().map(contract_of),
            }
        };
        Ok(self.planned.results.iter().map(target).collect())
    }

    fn work(&self) -> Result<protocol::Work, Failure> {
        Ok(match &self.planned.work {
            PlannedWork::DuckDb { setup, queries, load } => protocol::Work::DuckDb(protocol::DuckDbWork {
                setup: setup.clone(),
                queries: queries
                    .iter()
                    .map(|(output, sql)| protocol::NamedQuery { output: output.clone(), sql: sql.clone() })
                    .collect(),
                load: load.as_deref().map(|load| self.load(load)).transpose()?,
            }),
            PlannedWork::Export { table, connection, path, format, options } => {
                protocol::Work::Export(protocol::ExportWork {
                    relation: table.clone(),
                    to: self.file_target(connection, path)?,
                    format: format_of(*format),
                    options: options_of(Some(options)),
                })
            }
            PlannedWork::Copy { from, to, move_files } => protocol::Work::Copy(protocol::CopyWork {
                from: self.file_target(&from.0, &from.1)?,
                to: self.file_target(&to.0, &to.1)?,
                delete_source: *move_files,
            }),
            PlannedWork::Notify { connection, to, subject, body, attach } => {
                protocol::Work::Notify(protocol::NotifyWork {
                    connection: connection.clone(),
                    to: to.iter().map(|address| self.render(address)).collect::<Result<_, _>>()?,
                    subject: self.render(subject)?,
                    body: self.render(body)?,
                    attachments: attach
                        .iter()
                        .map(|(source, file_name)| self.attachment(source, file_name))
                        .collect::<Result<_, _>>()?,
                    message_id: name::message_id(&self.run.context.uid, &self.planned.name),
                    event: None,
                    log: None,
                })
            }
            PlannedWork::Report { title, text, charts, tables } => protocol::Work::Report(protocol::ReportWork {
                title: self.render(title)?,
                text: self.render(text)?,
                charts: charts.iter().map(|(chart, title)| self.chart(chart, title)).collect::<Result<_, _>>()?,
                tables: tables.iter().map(|(table, title)| self.table(table, title)).collect::<Result<_, _>>()?,
            }),
        })
    }

    fn load(&self, load: &plan::PlannedLoad) -> Result<protocol::Load, Failure> {
        let watermark = match &load.watermark {
            None => None,
            Some(watermark) => Some(protocol::Watermark {
                column: watermark.column.clone(),
                overlap: watermark.overlap.map(|overlap| match overlap {
                    plan::PlannedOverlap::Duration(duration) => {
                        protocol::Overlap::DurationMs(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
                    }
                    plan::PlannedOverlap::Number(number) => protocol::Overlap::Number(number),
                }),
                until: match &watermark.until {
                    None => None,
                    Some(until) => text(&until.evaluate(&self.scope).map_err(expression_failure)?),
                },
                bind: watermark.bind.clone(),
            }),
        };
        Ok(protocol::Load {
            connection: load.connection.clone(),
            schema: load.schema.clone(),
            table: load.table.clone(),
            mode: match load.mode {
                api::LoadMode::Append => protocol::LoadMode::Append,
                api::LoadMode::Replace => protocol::LoadMode::Replace,
                api::LoadMode::Upsert => protocol::LoadMode::Upsert,
            },
            key: load.key.clone(),
            prefer: load
                .prefer
                .as_ref()
                .map(|(column, descending)| protocol::OrderTerm { column: column.clone(), descending: *descending }),
            stamp: load.stamp.clone(),
            watermark,
        })
    }

    fn file_target(
        &self,
        connection: &str,
        path: &plan::expression::Template,
    ) -> Result<protocol::FileTarget, Failure> {
        Ok(protocol::FileTarget { connection: connection.to_owned(), path: self.render(path)? })
    }

    fn attachment(
        &self,
        source: &str,
        file_name: &plan::expression::Template,
    ) -> Result<protocol::Attachment, Failure> {
        let file_name = self.render(file_name)?;
        let is_file = self
            .planned
            .bindings
            .iter()
            .any(|binding| binding.name == source && matches!(binding.value, BindingValue::TaskFile(_)));
        let format = (!is_file).then(|| attachment_format(&file_name));
        Ok(protocol::Attachment { source: source.to_owned(), file_name, format })
    }

    fn chart(&self, chart: &api::Chart, title: &plan::expression::Template) -> Result<protocol::Chart, Failure> {
        Ok(protocol::Chart {
            relation: chart.table.clone(),
            mark: match chart.mark {
                api::Mark::Bar => protocol::Mark::Bar,
                api::Mark::Line => protocol::Mark::Line,
                api::Mark::Area => protocol::Mark::Area,
                api::Mark::Point => protocol::Mark::Point,
            },
            x_column: chart.x_column.clone(),
            y_columns: chart.y_columns.clone(),
            color_column: chart.color_column.clone(),
            title: Some(self.render(title)?).filter(|title| !title.is_empty()),
        })
    }

    fn table(
        &self,
        table: &api::ReportTable,
        title: &plan::expression::Template,
    ) -> Result<protocol::ReportTable, Failure> {
        /// Rows of a table that a page shows if the manifest does not say.
        const DEFAULT_LIMIT: u32 = 20;
        Ok(protocol::ReportTable {
            relation: table.table.clone(),
            title: Some(self.render(title)?).filter(|title| !title.is_empty()),
            limit: table.limit.and_then(|limit| u32::try_from(limit).ok()).unwrap_or(DEFAULT_LIMIT),
        })
    }
}

fn relation(name: String, source: RelationSource) -> protocol::Relation {
    protocol::Relation { name, source, contract: None }
}

/// By the name's ending; what has another is CSV, which every receiver opens.
fn attachment_format(file_name: &str) -> protocol::TableFormat {
    match file_name.rsplit('.').next() {
        Some("parquet") => protocol::TableFormat::Parquet,
        Some("json" | "jsonl" | "ndjson") => protocol::TableFormat::Json,
        _ => protocol::TableFormat::Csv,
    }
}

/// A value as text that casts back; `None` for null.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

/// The DuckDB type that a JSON value has by itself.
pub(crate) fn json_type(value: &Value) -> String {
    match value {
        Value::Null | Value::String(_) => "VARCHAR".to_owned(),
        Value::Bool(_) => "BOOLEAN".to_owned(),
        Value::Number(number) if number.is_f64() => "DOUBLE".to_owned(),
        Value::Number(_) => "BIGINT".to_owned(),
        Value::Array(items) => {
            let first = items.iter().find(|item| !item.is_null());
            format!("{}[]", first.map_or_else(|| "VARCHAR".to_owned(), json_type))
        }
        Value::Object(_) => "JSON".to_owned(),
    }
}

pub(crate) fn row_values(row: &api::Row, contract: &protocol::Contract) -> Vec<Value> {
    let value = |column: &protocol::ContractColumn| {
        let found = row.iter().find(|(name, _)| name.eq_ignore_ascii_case(&column.name));
        found.map_or(Value::Null, |(_, value)| value.0.clone())
    };
    contract.columns.iter().map(value).collect()
}

pub(crate) fn format_of(format: api::TableFormat) -> protocol::TableFormat {
    match format {
        api::TableFormat::Parquet => protocol::TableFormat::Parquet,
        api::TableFormat::Csv => protocol::TableFormat::Csv,
        api::TableFormat::Json => protocol::TableFormat::Json,
    }
}

pub(crate) fn options_of(options: Option<&api::FormatOptions>) -> protocol::FormatOptions {
    let options = options.cloned().unwrap_or_default();
    protocol::FormatOptions {
        delimiter: options.delimiter,
        header: options.header,
        quote: options.quote,
        null_text: options.null_text,
        date_format: options.date_format,
        timestamp_format: options.timestamp_format,
    }
}

pub(crate) fn contract_of(contract: &plan::Contract) -> protocol::Contract {
    protocol::Contract {
        columns: contract
            .columns
            .iter()
            .map(|column| protocol::ContractColumn {
                name: column.name.clone(),
                data_type: column.data_type.clone(),
                nullable: column.nullable.unwrap_or(true),
                from_file_name: column.source == Some(api::ColumnSource::FileName),
            })
            .collect(),
        other_columns: match contract.other_columns {
            api::OtherColumns::Drop => protocol::OtherColumns::Drop,
            api::OtherColumns::Keep => protocol::OtherColumns::Keep,
            api::OtherColumns::Fail => protocol::OtherColumns::Fail,
        },
    }
}

/// What a copy reads is not pinned, so nobody can say whether it would do the same again.
fn may_reuse(work: &protocol::Work) -> bool {
    !matches!(work, protocol::Work::Copy(_))
}

/// Digest over what decides a result: definition and inputs, not where they lie, which run it is, how it is retried or
/// how long it waits. Whether a result is published decides where its files must lie.
fn reuse_key(order: &protocol::WorkOrder, loads: &[(&str, &str)]) -> String {
    let mut work = order.work.clone();
    if let protocol::Work::Notify(notify) = &mut work {
        notify.message_id.clear();
    }
    let relations = order.relations.iter().map(|relation| {
        let mut relation = relation.clone();
        match &mut relation.source {
            RelationSource::Committed { files } => files.iter_mut().for_each(|file| file.key.clear()),
            RelationSource::Files { pinned, .. } | RelationSource::Uri { pinned, .. } => *pinned = None,
            RelationSource::Rows { .. } | RelationSource::DatabaseTable { .. } => {}
        }
        relation
    });
    let files = order.files.iter().map(|binding| (&binding.name, &binding.file.digest));
    let outputs = order.outputs.iter().map(|output| {
        let is_published = matches!(output.destination, protocol::Destination::Artifact { .. });
        (&output.name, output.kind, &output.contract, is_published)
    });
    let connections = order.connections.iter().map(|connection| {
        let mut connection = connection.clone();
        if let protocol::ConnectionTarget::DuckDb { busy_timeout_ms, .. } = &mut connection.target {
            *busy_timeout_ms = 0;
        }
        connection
    });
    let document = serde_json::json!({
        "work": work,
        "relations": relations.collect::<Vec<_>>(),
        "parameters": order.parameters,
        "files": files.collect::<Vec<_>>(),
        "loads": loads,
        "connections": connections.collect::<Vec<_>>(),
        "outputs": outputs.collect::<Vec<_>>(),
    });
    name::reuse_digest(&document.to_string())
}

/// The results of a report, if it tells of success.
pub(crate) fn results_of(report: &TaskReport) -> Option<&protocol::Results> {
    match &report.outcome {
        ReportOutcome::Succeeded(results) => Some(results),
        ReportOutcome::Failed(_) => None,
    }
}
