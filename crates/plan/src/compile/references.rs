//! What expressions read, and of what type it is.

use pintail_api as api;
use pintail_engine::TaskIndex;

use super::{Compiler, MainResult, quoted};
use crate::Rule;
use crate::data_type::Type;
use crate::expression::{Expression, Kind, Reference, ScopeName, Template, infer};
use crate::problem::{FieldPath, Problem, listing, nearest};

const EXECUTION_FIELDS: [&str; 4] = ["name", "uid", "startTime", "scheduledTime"];
const TABLE_FIELDS: [&str; 3] = ["rows", "bytes", "uri"];
const LOAD_FIELDS: [&str; 4] = ["rows", "watermark", "inserted", "updated"];

/// What stands behind a reference.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Meaning<'a> {
    InputTable,
    /// A table that a task keeps: `(task, result name)`.
    Table(TaskIndex, &'a str),
    Loaded(TaskIndex),
    File(TaskIndex),
    /// One row of `kind: Values`.
    Row,
    Value(Kind),
}

/// Why a reference stands for nothing.
pub(super) struct Unknown {
    pub rule: Rule,
    pub message: String,
    pub suggestion: Option<String>,
}

fn unknown(message: String, suggestion: Option<String>) -> Unknown {
    Unknown { rule: Rule::UnknownReference, message, suggestion }
}

/// Where an expression stands.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Place<'a> {
    /// In the task of that name.
    Task(&'a str),
    /// In an output.
    Output,
    /// Where only what is known before the first task may be read.
    BeforeStart,
}

impl<'a> Compiler<'a> {
    pub(super) fn meaning(&self, reference: &Reference) -> Result<Meaning<'a>, Unknown> {
        let (name, fields) = reference.path.split_first().map_or(("", &[][..]), |(name, rest)| (name.as_str(), rest));
        let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
        match reference.scope {
            ScopeName::Execution if EXECUTION_FIELDS.contains(&name) && fields.is_empty() => {
                Ok(Meaning::Value(Kind::Text))
            }
            ScopeName::Execution => Err(unknown(
                format!("`execution` has {} and no `{}`", listing(EXECUTION_FIELDS), reference.path.join(".")),
                nearest(name, EXECUTION_FIELDS).map(quoted),
            )),
            ScopeName::Inputs => self.input_meaning(name, &fields),
            ScopeName::Tasks => self.task_meaning(name, &fields),
            ScopeName::Trigger | ScopeName::Artifact => Err(Unknown {
                rule: Rule::ScopeNotAllowed,
                message: format!(
                    "`{reference}` is known in a LaunchPlan only: bind it to an input there, and read the input here"
                ),
                suggestion: None,
            }),
        }
    }

    fn input_meaning(&self, name: &str, fields: &[&str]) -> Result<Meaning<'a>, Unknown> {
        let Some(input) = self.inputs.get(name) else {
            let near = nearest(name, self.inputs.keys().copied()).map(quoted);
            let task = self.tasks.contains_key(name).then(|| format!("`tasks.{name}`"));
            return Err(unknown(format!("there is no input `{name}`"), task.or(near)));
        };
        match (&input.data_type, fields) {
            _ if input.is_table && fields.is_empty() => Ok(Meaning::InputTable),
            _ if input.is_table => Err(unknown(
                format!("input `{name}` is a table and has no `{}` for expressions", fields.join(".")),
                None,
            )),
            (Some(data_type), []) => Ok(Meaning::Value(kind_of(data_type))),
            (Some(Type::Json | Type::Struct(_) | Type::Map(..) | Type::Union(_)) | None, _) => {
                Ok(Meaning::Value(Kind::Any))
            }
            (Some(data_type), _) => {
                Err(unknown(format!("input `{name}` is a {data_type} and has no `{}`", fields.join(".")), None))
            }
        }
    }

    fn task_meaning(&self, name: &str, fields: &[&str]) -> Result<Meaning<'a>, Unknown> {
        let Some(task) = self.tasks.get(name) else {
            let near = nearest(name, self.tasks.keys().copied()).map(quoted);
            let input = self.inputs.contains_key(name).then(|| format!("`inputs.{name}`"));
            return Err(unknown(format!("there is no task `{name}`"), input.or(near)));
        };
        if let Some((first, rest)) = fields.split_first()
            && let Some(output) = task.outputs.iter().find(|output| output.name == *first)
        {
            let of = format!("output `{first}` of task `{name}`");
            return match output.kind.unwrap_or_default() {
                api::ResultKind::Table => table_meaning(&of, task.index, &output.name, rest),
                api::ResultKind::Values => values_meaning(&of, output.columns.as_deref(), rest, &[]),
            };
        }
        let outputs: Vec<&str> = task.outputs.iter().map(|output| output.name.as_str()).collect();
        let of = format!("task `{name}`");
        let own = if fields.first() == Some(&"result") { &fields[1..] } else { fields };
        match task.main {
            MainResult::Table => {
                table_meaning(&of, task.index, "result", own).map_err(|error| with_outputs(error, &outputs, own))
            }
            MainResult::Values(columns) => values_meaning(&of, columns, own, &outputs),
            MainResult::Report if own.is_empty() => Ok(Meaning::File(task.index)),
            MainResult::Report => value_field(&of, "a report", own, &["bytes", "uri"]),
            MainResult::Export => value_field(&of, "an export", own, &TABLE_FIELDS),
            MainResult::Copy => value_field(&of, "a copy", own, &["files", "bytes"]),
            MainResult::Notify => Err(unknown(format!("{of} sends a message and has nothing to read"), None)),
            MainResult::None => Err(unknown(
                format!("{of} has the outputs {} only", listing(outputs.iter().copied())),
                suggest(fields, &outputs),
            )),
            MainResult::Load => match fields {
                [] => Ok(Meaning::Loaded(task.index)),
                ["load", rest @ ..] => value_field(&of, "a load", rest, &LOAD_FIELDS),
                _ => Err(unknown(
                    format!("{of} loads, and has `load.rows`, `load.watermark`, `load.inserted` and `load.updated`"),
                    fields
                        .first()
                        .and_then(|field| nearest(field, LOAD_FIELDS))
                        .map(|field| format!("`tasks.{name}.load.{field}`")),
                )),
            },
        }
    }

    /// Parses text, reports what is wrong in it, and gives what is right.
    pub(super) fn template(&mut self, text: &str, path: &FieldPath, place: Place) -> Option<Template> {
        let template = match Template::parse_here(text) {
            Ok(template) => template,
            Err(errors) => {
                for error in errors {
                    let problem = Problem::new(error.rule, path.clone(), error.message);
                    self.report(problem.at(error.offset).suggest(error.suggestion));
                }
                return None;
            }
        };
        let before = self.problems.len();
        for expression in template.expressions() {
            self.kind(expression, text, path, place);
        }
        (self.problems.len() == before).then_some(template)
    }

    pub(super) fn template_before_start(&mut self, text: &str, path: &FieldPath) -> Option<Template> {
        self.template(text, path, Place::BeforeStart)
    }

    /// The type of a calculation; reports references that stand for nothing and operators that give nothing.
    pub(super) fn kind(&mut self, expression: &Expression, text: &str, path: &FieldPath, place: Place) -> Kind {
        let mut is_right = true;
        for reference in expression.references() {
            if let Some(problem) = self.check_value(reference, path, place) {
                is_right = false;
                let offset = crate::expression::find(text, reference);
                self.report(problem.at(offset));
            }
        }
        if !is_right {
            return Kind::Any;
        }
        let types = |scope: ScopeName, fields: &[&str]| {
            let path = fields.iter().map(|field| (*field).to_owned()).collect();
            match self.meaning(&Reference { scope, path }) {
                Ok(Meaning::Value(kind)) => kind,
                _ => Kind::Any,
            }
        };
        match infer(expression, &types) {
            Ok(kind) => kind,
            Err(message) => {
                let message = format!("`$({})` has no value: {message}", crate::problem::excerpt(&expression.source));
                let offset = text.find(&expression.source).unwrap_or_default();
                self.report(Problem::new(Rule::ExpressionType, path.clone(), message).at(offset));
                Kind::Any
            }
        }
    }

    fn check_value(&self, reference: &Reference, path: &FieldPath, place: Place) -> Option<Problem> {
        let problem = |rule, message| Some(Problem::new(rule, path.clone(), message));
        if let Some(problem) = self.check_place(reference, path, place) {
            return Some(problem);
        }
        match self.meaning(reference) {
            Ok(Meaning::Value(_)) => None,
            Ok(Meaning::Row) => problem(
                Rule::ExpressionType,
                format!("`{reference}` is a row of values; read one of its columns, `{reference}.<column>`"),
            ),
            Ok(Meaning::InputTable) => {
                problem(Rule::ExpressionType, format!("`{reference}` is a table and no value; use it in SQL"))
            }
            Ok(Meaning::Table(..)) => problem(
                Rule::ExpressionType,
                format!("`{reference}` is a table and no value; read its `.rows`, `.bytes` or `.uri`"),
            ),
            Ok(Meaning::File(_)) => problem(
                Rule::ExpressionType,
                format!("`{reference}` is a file and no value; read its `.uri` or `.bytes`"),
            ),
            Ok(Meaning::Loaded(_)) => {
                problem(Rule::ExpressionType, format!("`{reference}` is a load and no value; read its `.load.rows`"))
            }
            Err(unknown) => Some(Problem::new(unknown.rule, path.clone(), unknown.message).suggest(unknown.suggestion)),
        }
    }

    /// Whether the reference may stand at its place at all.
    pub(super) fn check_place(&self, reference: &Reference, path: &FieldPath, place: Place) -> Option<Problem> {
        let name = reference.path.first()?;
        match (reference.scope, place) {
            (ScopeName::Tasks, Place::Task(own)) if own == name => {
                let message = format!("task `{name}` cannot use its own result");
                Some(Problem::new(Rule::SelfReference, path.clone(), message))
            }
            (ScopeName::Tasks, Place::BeforeStart) => {
                let message = format!(
                    "`{reference}` is not known before the first task starts; only inputs and execution can be read here"
                );
                Some(Problem::new(Rule::ScopeNotAllowed, path.clone(), message))
            }
            _ => None,
        }
    }
}

fn kind_of(data_type: &Type) -> Kind {
    match data_type {
        Type::Boolean => Kind::Bool,
        Type::Integer { bits: ..=64, .. } => Kind::Int,
        Type::Text | Type::Date | Type::Time | Type::Timestamp(_) | Type::Opaque(_) | Type::Enum(_) => Kind::Text,
        Type::List(..) => Kind::List,
        Type::Struct(_) | Type::Map(..) => Kind::Map,
        // A whole number bound to a DOUBLE is an integer to CEL; a DECIMAL and a HUGEINT are a number or text.
        Type::Float(_) | Type::Decimal { .. } | Type::Integer { .. } | Type::Json | Type::Union(_) => Kind::Any,
    }
}

/// What the fields of tables, loads and files are.
fn field_kind(field: &str) -> Kind {
    match field {
        "uri" => Kind::Text,
        "watermark" => Kind::Any,
        _ => Kind::Int,
    }
}

fn suggest(fields: &[&str], known: &[&str]) -> Option<String> {
    fields.first().and_then(|field| nearest(field, known.iter().copied())).map(quoted)
}

fn table_meaning<'a>(of: &str, task: TaskIndex, output: &'a str, fields: &[&str]) -> Result<Meaning<'a>, Unknown> {
    match fields {
        [] => Ok(Meaning::Table(task, output)),
        _ => value_field(of, "a table", fields, &TABLE_FIELDS),
    }
}

fn value_field<'a>(of: &str, what: &str, fields: &[&str], known: &[&str]) -> Result<Meaning<'a>, Unknown> {
    match fields {
        [field] if known.contains(field) => Ok(Meaning::Value(field_kind(field))),
        [] => Err(unknown(format!("{of} is {what}; read its {}", listing(known.iter().copied())), None)),
        _ => Err(unknown(
            format!("{of} is {what}, which has {} and no `{}`", listing(known.iter().copied()), fields.join(".")),
            suggest(fields, known),
        )),
    }
}

fn values_meaning<'a>(
    of: &str,
    columns: Option<&[api::Column]>,
    fields: &[&str],
    outputs: &[&str],
) -> Result<Meaning<'a>, Unknown> {
    let (Some(field), Some(columns)) = (fields.first(), columns) else {
        return Ok(if fields.is_empty() { Meaning::Row } else { Meaning::Value(Kind::Any) });
    };
    match columns.iter().find(|column| column.name == *field) {
        Some(column) => Ok(Meaning::Value(Type::parse(&column.data_type).map_or(Kind::Any, |known| kind_of(&known)))),
        None => {
            let names: Vec<&str> =
                columns.iter().map(|column| column.name.as_str()).chain(outputs.iter().copied()).collect();
            Err(unknown(
                format!("{of} has {} and no `{field}`", listing(names.iter().copied())),
                suggest(fields, &names),
            ))
        }
    }
}

fn with_outputs(mut error: Unknown, outputs: &[&str], fields: &[&str]) -> Unknown {
    if error.suggestion.is_none() {
        error.suggestion = suggest(fields, outputs);
    }
    error
}
