use pintail_api as api;
use pintail_engine::TaskIndex;

use super::task::Draft;
use super::{Compiler, names, quoted};
use crate::expression::{Expression, Kind};
use crate::model::{BindingValue, PlannedLoad, PlannedOverlap, PlannedWatermark};
use crate::problem::{FieldPath, Problem, nearest};
use crate::{Rule, quantity};

/// `<connection>.<table>` or `<connection>.<schema>.<table>`.
struct Target {
    connection: String,
    schema: Option<String>,
    table: String,
}

impl<'a> Compiler<'a> {
    pub(super) fn compile_load(&mut self, draft: &mut Draft<'a>, load: &'a api::Load) -> Option<PlannedLoad> {
        let path = draft.path.field("duckdb").field("load");
        let target = self.checked_target(draft, load, &path.field("into"));
        self.check_key(load, &path);
        let prefer = load.prefer.as_ref().and_then(|text| self.prefer(text, &path.field("prefer")));
        let watermark =
            load.watermark.as_ref().map(|watermark| self.watermark(draft, load, watermark, &path.field("watermark")));
        let target = target?;
        Some(PlannedLoad {
            connection: target.connection,
            schema: target.schema,
            table: target.table,
            mode: load.mode,
            key: load.key.clone(),
            prefer,
            stamp: load.stamp.clone(),
            watermark,
        })
    }

    /// Connection and table of a load task, as far as `into` can be read.
    pub(super) fn load_target(&self, task: TaskIndex) -> Option<(String, String)> {
        let task = self.workflow.spec.tasks.get(task.0 as usize)?;
        let target = target(&task.duckdb.as_ref()?.load.as_ref()?.into).ok()?;
        let table = match target.schema {
            Some(schema) => format!("{schema}.{}", target.table),
            None => target.table,
        };
        Some((target.connection, table))
    }

    fn checked_target(&mut self, draft: &mut Draft<'a>, load: &api::Load, path: &FieldPath) -> Option<Target> {
        let target = match target(&load.into) {
            Ok(target) => target,
            Err(message) => {
                self.problem(Rule::InvalidLoad, path, message);
                return None;
            }
        };
        let name = &target.connection;
        if !draft.task.writes.contains(name) {
            let near = nearest(name, draft.task.writes.iter().map(String::as_str)).map(quoted);
            if near.is_none() && self.connection(name, path).is_none() {
                return None;
            }
            let message = format!("the task loads into `{name}`, which is not in its `writes`");
            let suggestion = near.or_else(|| Some(format!("`writes: [{name}]`")));
            self.report(Problem::new(Rule::UndeclaredConnection, path.clone(), message).suggest(suggestion));
        }
        if target.table.starts_with("_pintail_") {
            self.problem(Rule::InvalidLoad, path, "tables that begin with `_pintail_` are Pintail's own");
        }
        draft.touch(name, true);
        Some(target)
    }

    fn check_key(&mut self, load: &api::Load, path: &FieldPath) {
        let is_upsert = load.mode == api::LoadMode::Upsert;
        if is_upsert && load.key.is_empty() {
            let message = "`mode: Upsert` needs a `key`: the columns that tell one row from another";
            self.problem(Rule::InvalidLoad, path, message);
        }
        let mode = mode_name(load.mode);
        if !is_upsert && !load.key.is_empty() {
            let message = format!("`key` has no effect with `mode: {mode}`");
            self.report(Problem::new(Rule::InvalidLoad, path.field("key"), message).suggest(Some("`mode: Upsert`")));
        }
        if !is_upsert && load.prefer.is_some() {
            let message = format!("`prefer` chooses among rows with one key, and `mode: {mode}` has no key");
            self.report(Problem::new(Rule::InvalidLoad, path.field("prefer"), message).suggest(Some("`mode: Upsert`")));
        }
        for (position, column) in load.key.iter().enumerate() {
            let path = path.field("key").index(position);
            if load.key[..position].iter().any(|other| other.eq_ignore_ascii_case(column)) {
                self.problem(Rule::InvalidLoad, &path, format!("column `{column}` stands in the key twice"));
            }
            if load.stamp.as_ref().is_some_and(|stamp| stamp.eq_ignore_ascii_case(column)) {
                let message =
                    format!("`{column}` is the stamp, which differs in each load, and cannot be part of the key");
                self.problem(Rule::InvalidLoad, &path, message);
            }
        }
    }

    /// `column`, `column ASC` or `column DESC`; the column in double quotes where it has spaces.
    fn prefer(&mut self, text: &str, path: &FieldPath) -> Option<(String, bool)> {
        let text = text.trim();
        let (column, direction) = match text.strip_prefix('"').and_then(|rest| rest.split_once('"')) {
            Some((column, direction)) => (column, direction.trim()),
            None => text.split_once(char::is_whitespace).map_or((text, ""), |(column, rest)| (column, rest.trim())),
        };
        let descending = match direction.to_ascii_uppercase().as_str() {
            "" | "ASC" => Some(false),
            "DESC" => Some(true),
            _ => None,
        };
        match descending {
            Some(descending) if !column.is_empty() && !column.contains([',', '(', ')', ';']) => {
                Some((column.to_owned(), descending))
            }
            _ => {
                let message = "`prefer` is one column, and `DESC` where the greatest wins: `source_file DESC`";
                self.problem(Rule::InvalidLoad, path, message);
                None
            }
        }
    }

    fn watermark(
        &mut self,
        draft: &mut Draft<'a>,
        load: &api::Load,
        watermark: &'a api::Watermark,
        path: &FieldPath,
    ) -> PlannedWatermark {
        if load.mode == api::LoadMode::Replace {
            let message = "`mode: Replace` takes all rows anew, and a watermark would leave the older ones out";
            self.report(
                Problem::new(Rule::InvalidLoad, path.clone(), message)
                    .suggest(Some("`mode: Upsert` or `mode: Append`")),
            );
        }
        let overlap = watermark.overlap.as_ref().and_then(|text| {
            let path = path.field("overlap");
            if load.mode == api::LoadMode::Append {
                let message = "with `mode: Append` rows of the overlap would be loaded twice";
                self.report(
                    Problem::new(Rule::InvalidLoad, path.clone(), message).suggest(Some("`mode: Upsert` with a `key`")),
                );
            }
            self.overlap(text, &path)
        });
        let until = watermark.until.as_ref().and_then(|text| self.until(draft, text, &path.field("until")));
        if let Some(name) = &watermark.bind {
            let path = path.field("bind");
            self.problems.extend(names::check(name, "parameter", &path));
            let is_scalar = |value: &BindingValue| matches!(value, BindingValue::Scalar { .. });
            if draft.binding(name).is_some_and(|binding| is_scalar(&binding.value)) {
                self.problem(Rule::DuplicateName, &path, format!("`${name}` is a parameter of the task already"));
            }
        }
        PlannedWatermark { column: watermark.column.clone(), overlap, until, bind: watermark.bind.clone() }
    }

    fn overlap(&mut self, text: &str, path: &FieldPath) -> Option<PlannedOverlap> {
        if let Ok(number) = text.parse() {
            return Some(PlannedOverlap::Number(number));
        }
        match quantity::duration(text) {
            Ok(duration) => Some(PlannedOverlap::Duration(duration)),
            Err(message) => {
                self.problem(
                    Rule::InvalidDuration,
                    path,
                    format!("{message}, or a number as in `\"100\"` for a number"),
                );
                None
            }
        }
    }

    fn until(&mut self, draft: &mut Draft<'a>, text: &str, path: &FieldPath) -> Option<Expression> {
        let template = self.task_template(draft, text, path)?;
        if let Some(literal) = template.literal() {
            return Some(Expression::constant(literal));
        }
        let Some(expression) = template.sole_expression() else {
            let message = "`until` is one expression, or a value such as `\"2024-01-31\"`";
            self.problem(Rule::ExpressionType, path, message);
            return None;
        };
        let kind = self.kind(expression, text, path, draft.place());
        if matches!(kind, Kind::Bool | Kind::List | Kind::Map) {
            let message = format!("`until` gives {}, and needs a date, a time, a number or null", kind.describe());
            self.problem(Rule::ExpressionType, path, message);
        }
        Some(expression.clone())
    }
}

fn mode_name(mode: api::LoadMode) -> &'static str {
    match mode {
        api::LoadMode::Append => "Append",
        api::LoadMode::Replace => "Replace",
        api::LoadMode::Upsert => "Upsert",
    }
}

fn target(into: &str) -> Result<Target, String> {
    let parts: Vec<&str> = into.split('.').collect();
    let plain = |part: &&str| {
        part.starts_with(|char: char| char.is_ascii_alphabetic() || char == '_')
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    let shape = "is no `<connection>.<table>` or `<connection>.<schema>.<table>` of letters, digits and `_`";
    if !parts.iter().all(plain) {
        return Err(format!("`{}` {shape}", crate::problem::excerpt(into)));
    }
    match parts.as_slice() {
        [connection, table] => {
            Ok(Target { connection: (*connection).to_owned(), schema: None, table: (*table).to_owned() })
        }
        [connection, schema, table] => Ok(Target {
            connection: (*connection).to_owned(),
            schema: Some((*schema).to_owned()),
            table: (*table).to_owned(),
        }),
        _ => Err(format!("`{}` {shape}", crate::problem::excerpt(into))),
    }
}
