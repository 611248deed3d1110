//! What each kind of task does.

use pintail_api as api;

use super::connections::ConnectionKind;
use super::task::Draft;
use super::{Compiler, names, quoted};
use crate::Rule;
use crate::expression::Template;
use crate::model::{BindingValue, PlannedResult, PlannedWork, ResultKind};
use crate::problem::{FieldPath, Problem, nearest};

/// Stands in the place of work that has a problem: the plan is not given out then.
fn nothing() -> PlannedWork {
    PlannedWork::DuckDb { setup: Vec::new(), queries: Vec::new(), load: None }
}

impl<'a> Compiler<'a> {
    pub(super) fn compile_work(&mut self, draft: &mut Draft<'a>) -> (PlannedWork, Vec<PlannedResult>) {
        let task = draft.task;
        if let Some(duckdb) = &task.duckdb {
            return self.duckdb(draft, duckdb);
        }
        let work = if let Some(export) = &task.export {
            self.export(draft, export)
        } else if let Some(copy) = &task.copy {
            self.copy(draft, copy)
        } else if let Some(notify) = &task.notify {
            self.notify(draft, notify)
        } else if let Some(report) = &task.report {
            let work = self.report_page(draft, report);
            return (work.unwrap_or_else(nothing), vec![result("result", ResultKind::File, None)]);
        } else {
            // The rule of the schema says so too, at the same place, for who comes by the text.
            let message = "set exactly one of duckdb, export, copy, notify, report";
            self.problem(Rule::SchemaRule, &draft.path, message);
            None
        };
        (work.unwrap_or_else(nothing), Vec::new())
    }

    fn duckdb(&mut self, draft: &mut Draft<'a>, duckdb: &'a api::DuckDbTask) -> (PlannedWork, Vec<PlannedResult>) {
        let path = draft.path.field("duckdb");
        let mut queries = Vec::new();
        let mut results = Vec::new();
        for (position, setup) in duckdb.setup.iter().enumerate() {
            self.check_sql(setup, &path.field("setup").index(position));
        }
        let main = self.main_query(duckdb, &path);
        if duckdb.query.is_none() && duckdb.query_from.is_none() {
            self.check_no_query(duckdb, &path);
        }
        if let Some(sql) = main {
            queries.push(("result".to_owned(), sql));
            let kind = result_kind(duckdb.kind);
            let contract = self.contract(duckdb.columns.as_deref(), None, &path, false);
            if duckdb.load.is_none() {
                results.push(result("result", kind, contract));
            } else if kind == ResultKind::Values {
                let message = "a load takes a table, and `kind: Values` is a row for expressions";
                self.problem(Rule::InvalidLoad, &path.field("kind"), message);
            }
        }
        self.further_outputs(duckdb, &path, &mut queries, &mut results);
        let load = duckdb.load.as_ref().and_then(|load| self.compile_load(draft, load)).map(Box::new);
        self.check_no_files(draft);
        (PlannedWork::DuckDb { setup: duckdb.setup.clone(), queries, load }, results)
    }

    fn further_outputs(
        &mut self,
        duckdb: &'a api::DuckDbTask,
        path: &FieldPath,
        queries: &mut Vec<(String, String)>,
        results: &mut Vec<PlannedResult>,
    ) {
        for (position, output) in duckdb.outputs.iter().enumerate() {
            let path = path.field("outputs").index(position);
            self.problems.extend(names::check_output(&output.name, &path.field("name")));
            if duckdb.outputs[..position].iter().any(|other| other.name == output.name) {
                let message = format!("`{}` is the name of an earlier output already", output.name);
                self.problem(Rule::DuplicateName, &path.field("name"), message);
            }
            let columns = duckdb.columns.iter().flatten();
            if duckdb.kind == Some(api::ResultKind::Values)
                && columns.into_iter().any(|column| column.name == output.name)
            {
                let message = format!("`{}` is a column of the task's values already", output.name);
                self.problem(Rule::DuplicateName, &path.field("name"), message);
            }
            self.check_sql(&output.query, &path.field("query"));
            let contract = self.contract(output.columns.as_deref(), None, &path, false);
            queries.push((output.name.clone(), output.query.clone()));
            results.push(result(&output.name, result_kind(output.kind), contract));
        }
    }

    fn main_query(&mut self, duckdb: &api::DuckDbTask, path: &FieldPath) -> Option<String> {
        if let Some(query) = &duckdb.query {
            self.check_sql(query, &path.field("query"));
            return Some(query.clone());
        }
        let from = duckdb.query_from.as_ref()?;
        let path = path.field("queryFrom").field("configMapKeyRef");
        match self.config_map_text(from) {
            Some(text) => {
                let text = text.to_owned();
                self.check_sql(&text, &path.field("key"));
                Some(text)
            }
            None => {
                self.report_config_map(from, &path);
                // Stands for the query that is there, but not to be seen, so that its uses are not reported too.
                Some(String::new())
            }
        }
    }

    pub(super) fn config_map_text(&self, from: &api::QueryFrom) -> Option<&'a str> {
        let reference = &from.config_map_key_ref;
        self.surroundings.config_maps.get(&reference.name)?.get(&reference.key).map(String::as_str)
    }

    fn report_config_map(&mut self, from: &api::QueryFrom, path: &FieldPath) {
        let api::ConfigMapKeyRef { name, key } = &from.config_map_key_ref;
        let (field, message, near) = match self.surroundings.config_maps.get(name) {
            Some(map) => {
                let near = nearest(key, map.keys().map(String::as_str));
                ("key", format!("ConfigMap `{name}` has no key `{key}`"), near)
            }
            None => {
                let near = nearest(name, self.surroundings.config_maps.keys().map(String::as_str));
                ("name", format!("there is no ConfigMap `{name}`: its manifest is needed, too"), near)
            }
        };
        let near = near.map(quoted);
        self.report(Problem::new(Rule::UnknownName, path.field(field), message).suggest(near));
    }

    fn check_no_query(&mut self, duckdb: &api::DuckDbTask, path: &FieldPath) {
        if duckdb.load.is_some() {
            self.problem(Rule::MissingQuery, path, "a load needs a `query` that gives its rows");
        } else if duckdb.outputs.is_empty() {
            let near = (!duckdb.setup.is_empty()).then_some("`query` for the last statement of `setup`");
            let problem =
                Problem::new(Rule::MissingQuery, path.clone(), "the task has no `query`, `queryFrom` or `outputs`");
            self.report(problem.suggest(near));
        }
        for (field, is_there) in [("columns", duckdb.columns.is_some()), ("kind", duckdb.kind.is_some())] {
            if is_there {
                let message = format!("`{field}` describes the result of a `query`, and there is none");
                self.problem(Rule::MissingQuery, &path.field(field), message);
            }
        }
    }

    /// Whether SQL says something, and takes no values by text.
    fn check_sql(&mut self, sql: &str, path: &FieldPath) {
        if let Some(at) = sql.find("$(") {
            let inner = sql[at + 2..].split(')').next().unwrap_or_default();
            let name = inner.strip_prefix("inputs.").filter(|name| names::is_name(name));
            let suggestion = match name {
                Some(name) => format!("`${name}`, with `uses: [{name}]`"),
                None => format!("`$value`, with `with: {{ value: $({}) }}`", crate::problem::excerpt(inner)),
            };
            let message = "SQL takes no `$(…)`: values come in as parameters";
            let problem = Problem::new(Rule::ExpressionInSql, path.clone(), message);
            self.report(problem.at(at).suggest(Some(suggestion)));
        }
        if is_blank(sql) {
            self.problem(Rule::MissingQuery, path, "there is no SQL here, only space and comments");
        }
    }

    fn check_no_files(&mut self, draft: &Draft<'a>) {
        let files: Vec<String> = draft
            .bindings
            .iter()
            .filter(|binding| matches!(binding.value, BindingValue::TaskFile(_)))
            .map(|binding| binding.name.clone())
            .collect();
        for name in files {
            let path = self.binding_path(draft, &name);
            let message = format!("`{name}` is a report, a file that SQL cannot read; it can be attached to a message");
            self.problem(Rule::WrongResultKind, &path, message);
        }
    }

    fn binding_path(&self, draft: &Draft<'a>, name: &str) -> FieldPath {
        match draft.task.uses.iter().position(|used| used == name) {
            Some(position) => draft.path.field("uses").index(position),
            None => draft.path.field("with").field(name),
        }
    }

    fn export(&mut self, draft: &mut Draft<'a>, export: &'a api::ExportTask) -> Option<PlannedWork> {
        let path = draft.path.field("export");
        self.table(draft, &export.table, &path.field("table"));
        let target = self.location(draft, &export.to, &path.field("to"), true);
        let format = export.format.or_else(|| {
            let format = format_of(&export.to.path);
            if format.is_none() {
                let message = "the file's name ends in none of `.parquet`, `.csv` and `.json`; say its `format`";
                self.report(
                    Problem::new(Rule::UnknownFormat, path.field("to").field("path"), message)
                        .suggest(Some("`format: Parquet`")),
                );
            }
            format
        });
        if export.options.is_some() && format.is_some_and(|format| format != api::TableFormat::Csv) {
            self.problem(Rule::NothingUsesIt, &path.field("options"), "`options` are those of CSV files");
        }
        Some(PlannedWork::Export {
            table: export.table.clone(),
            connection: export.to.connection.clone(),
            path: target?,
            format: format?,
            options: export.options.clone().unwrap_or_default(),
        })
    }

    fn location(
        &mut self,
        draft: &mut Draft<'a>,
        location: &'a api::FileLocation,
        path: &FieldPath,
        writes: bool,
    ) -> Option<Template> {
        self.file_connection(&location.connection, &path.field("connection"), writes);
        draft.touch(&location.connection, writes);
        self.check_file_path(&location.path, &path.field("path"));
        self.task_template(draft, &location.path, &path.field("path"))
    }

    fn copy(&mut self, draft: &mut Draft<'a>, copy: &'a api::CopyTask) -> Option<PlannedWork> {
        let path = draft.path.field("copy");
        for (field, is_there) in [("uses", !draft.task.uses.is_empty()), ("with", !draft.task.with.is_empty())] {
            if is_there {
                let message =
                    format!("`{field}` has no effect: a copy takes files and no tables; `dependsOn` orders it");
                self.problem(Rule::NothingUsesIt, &draft.path.field(field), message);
            }
        }
        let move_files = copy.move_files.unwrap_or_default();
        let from = self.location(draft, &copy.from, &path.field("from"), false);
        if move_files {
            // Moving deletes files there.
            self.file_connection(&copy.from.connection, &path.field("from").field("connection"), true);
            draft.touch(&copy.from.connection, true);
        }
        let to = self.location(draft, &copy.to, &path.field("to"), true);
        let is_pattern = copy.from.path.contains(['*', '?', '[']) && !copy.from.path.contains("$(");
        if is_pattern && !copy.to.path.ends_with(['/', ')']) {
            let message = "several files cannot have one name; a folder ends in `/`";
            let meant = format!("`{}/`", crate::problem::excerpt(&copy.to.path));
            self.report(Problem::new(Rule::InvalidPath, path.field("to").field("path"), message).suggest(Some(meant)));
        }
        Some(PlannedWork::Copy {
            from: (copy.from.connection.clone(), from?),
            to: (copy.to.connection.clone(), to?),
            move_files,
        })
    }

    fn notify(&mut self, draft: &mut Draft<'a>, notify: &'a api::NotifyTask) -> Option<PlannedWork> {
        let path = draft.path.field("notify");
        let connection_path = path.field("connection");
        let kind = self.connection(&notify.connection, &connection_path);
        match kind {
            Some(ConnectionKind::Smtp) if notify.to.is_empty() => {
                self.problem(Rule::MissingField, &path.field("to"), "a mail needs addresses in `to`");
            }
            Some(ConnectionKind::Webhook) => {
                for (field, is_there) in [("to", !notify.to.is_empty()), ("attach", !notify.attach.is_empty())] {
                    if is_there {
                        let message = format!("`{field}` belongs to mail, and `{}` is a webhook", notify.connection);
                        self.problem(Rule::NothingUsesIt, &path.field(field), message);
                    }
                }
            }
            Some(ConnectionKind::Smtp | ConnectionKind::Unclear) | None => {}
            Some(_) => {
                let message = format!("`{}` is no mail server and no webhook", notify.connection);
                self.problem(Rule::UnfitConnection, &connection_path, message);
            }
        }
        draft.touch(&notify.connection, false);
        let to = self.addresses(draft, notify, &path.field("to"));
        let subject = self.task_template(draft, &notify.subject, &path.field("subject"));
        let body = self.task_template(draft, notify.body.as_deref().unwrap_or_default(), &path.field("body"));
        let attach: Option<Vec<_>> = notify
            .attach
            .iter()
            .enumerate()
            .map(|(position, attachment)| self.attachment(draft, attachment, &path.field("attach").index(position)))
            .collect();
        Some(PlannedWork::Notify {
            connection: notify.connection.clone(),
            to: to?,
            subject: subject?,
            body: body?,
            attach: attach?,
        })
    }

    fn addresses(
        &mut self,
        draft: &mut Draft<'a>,
        notify: &'a api::NotifyTask,
        path: &FieldPath,
    ) -> Option<Vec<Template>> {
        let mut templates = Vec::new();
        for (position, address) in notify.to.iter().enumerate() {
            let path = path.index(position);
            let template = self.task_template(draft, address, &path)?;
            if template.literal().is_some_and(|literal| !literal.contains('@')) {
                let message = format!("`{}` is no address of mail", crate::problem::excerpt(address));
                self.problem(Rule::InvalidValue, &path, message);
            }
            templates.push(template);
        }
        Some(templates)
    }

    fn attachment(
        &mut self,
        draft: &mut Draft<'a>,
        attachment: &'a api::Attachment,
        path: &FieldPath,
    ) -> Option<(String, Template)> {
        let name = &attachment.table;
        let is_file = match self.named(draft, name, &path.field("table"))? {
            BindingValue::TaskFile(_) => true,
            BindingValue::Scalar { .. } => {
                let message = format!("`{name}` is a scalar; only tables and reports can be attached");
                self.problem(Rule::WrongResultKind, &path.field("table"), message);
                return None;
            }
            _ => false,
        };
        let path = path.field("as");
        let file_name = &attachment.file_name;
        if file_name.contains(['/', '\\']) && !file_name.contains("$(") {
            self.problem(Rule::InvalidPath, &path, "an attachment has a name and no folder");
        }
        if !is_file && format_of(file_name).is_none() {
            let message = "the name ends in none of `.csv`, `.json` and `.parquet`, so the format is not known";
            let meant = format!("`{name}.csv`");
            self.report(Problem::new(Rule::UnknownFormat, path.clone(), message).suggest(Some(meant)));
        } else if is_file && !file_name.to_ascii_lowercase().ends_with(".html") {
            let message = "a report is a page; its name ends in `.html`";
            self.report(
                Problem::new(Rule::UnknownFormat, path.clone(), message).suggest(Some(format!("`{name}.html`"))),
            );
        }
        self.task_template(draft, file_name, &path).map(|template| (name.clone(), template))
    }

    fn report_page(&mut self, draft: &mut Draft<'a>, report: &'a api::ReportTask) -> Option<PlannedWork> {
        let path = draft.path.field("report");
        let title = self.task_template(draft, &report.title, &path.field("title"));
        let text = self.task_template(draft, report.text.as_deref().unwrap_or_default(), &path.field("text"));
        let mut charts = Vec::new();
        for (position, chart) in report.charts.iter().enumerate() {
            let path = path.field("charts").index(position);
            self.table(draft, &chart.table, &path.field("table"));
            if chart.color_column.is_some() && chart.y_columns.len() > 1 {
                let message = "several `yColumns` are told apart by colour already; `colorColumn` goes with one";
                self.problem(Rule::NothingUsesIt, &path.field("colorColumn"), message);
            }
            let title = self.task_template(draft, chart.title.as_deref().unwrap_or_default(), &path.field("title"));
            charts.extend(title.map(|title| (chart.clone(), title)));
        }
        let mut tables = Vec::new();
        for (position, table) in report.tables.iter().enumerate() {
            let path = path.field("tables").index(position);
            self.table(draft, &table.table, &path.field("table"));
            let title = self.task_template(draft, table.title.as_deref().unwrap_or_default(), &path.field("title"));
            tables.extend(title.map(|title| (table.clone(), title)));
        }
        Some(PlannedWork::Report { title: title?, text: text?, charts, tables })
    }

    /// Checks that `name` is a table of the task.
    fn table(&mut self, draft: &Draft<'a>, name: &str, path: &FieldPath) {
        let what = match self.named(draft, name, path) {
            Some(BindingValue::Scalar { .. }) => "a scalar",
            Some(BindingValue::TaskFile(_)) => "a report",
            _ => return,
        };
        self.problem(Rule::WrongResultKind, path, format!("`{name}` is {what}, and a table is needed"));
    }

    /// What one of the task's names stands for.
    fn named<'d>(&mut self, draft: &'d Draft<'a>, name: &str, path: &FieldPath) -> Option<&'d BindingValue> {
        if let Some(binding) = draft.binding(name) {
            return Some(&binding.value);
        }
        // A name in `uses` or `with` that could not be bound was reported there.
        if draft.task.uses.iter().any(|used| used == name) || draft.task.with.contains_key(name) {
            return None;
        }
        let exists = self.inputs.contains_key(name) || self.tasks.contains_key(name);
        let own = draft.task.uses.iter().chain(draft.task.with.keys()).map(String::as_str);
        let suggestion = match nearest(name, own) {
            _ if exists => Some(format!("`uses: [{name}]` on the task")),
            Some(near) => Some(quoted(near)),
            None => self.nearest_name(name),
        };
        let message = format!("the task has no table `{}`", crate::problem::excerpt(name));
        self.report(Problem::new(Rule::UnknownName, path.clone(), message).suggest(suggestion));
        None
    }
}

fn result(name: &str, kind: ResultKind, contract: Option<crate::model::Contract>) -> PlannedResult {
    PlannedResult { name: name.to_owned(), kind, contract, published_by: None }
}

fn result_kind(kind: Option<api::ResultKind>) -> ResultKind {
    match kind.unwrap_or_default() {
        api::ResultKind::Table => ResultKind::Table,
        api::ResultKind::Values => ResultKind::Values,
    }
}

fn format_of(file_name: &str) -> Option<api::TableFormat> {
    let lower = file_name.to_ascii_lowercase();
    let endings =
        [(".parquet", api::TableFormat::Parquet), (".csv", api::TableFormat::Csv), (".json", api::TableFormat::Json)];
    endings.into_iter().find(|(ending, _)| lower.ends_with(ending)).map(|(_, format)| format)
}

/// Whether SQL is nothing but space, `;` and comments.
fn is_blank(sql: &str) -> bool {
    let mut rest = sql;
    loop {
        rest = rest.trim_start_matches(|char: char| char.is_whitespace() || char == ';');
        if rest.is_empty() {
            return true;
        } else if let Some(comment) = rest.strip_prefix("--") {
            rest = comment.split_once('\n').map_or("", |(_, after)| after);
        } else if let Some(comment) = rest.strip_prefix("/*") {
            rest = comment.split_once("*/").map_or("", |(_, after)| after);
        } else {
            return false;
        }
    }
}
