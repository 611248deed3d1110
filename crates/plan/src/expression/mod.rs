//! `$(…)`: CEL expressions and text that holds them.
//!
//! ```text
//! text ─ Template::parse ─> parts ─┬ text
//!                                  └ Expression::parse: bounds (our own scan), CEL's parser, checks of the tree
//! Expression + Scope ─ evaluate ─> JSON
//! ```
//!
//! CEL has no budget of its own, and its parser recurses: every bound here keeps a manifest from hanging or ending a
//! process. Values are JSON on both sides; timestamps are RFC 3339 text.

mod evaluate;
mod infer;
mod parse;
mod scan;
mod template;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use cel::IdedExpr;

pub(crate) use infer::{Kind, infer};
pub(crate) use parse::{find, on_large_stack};
pub use template::Template;
pub(crate) use template::is_cut;

use crate::Rule;

/// One CEL expression, found to be within bounds.
#[derive(Clone)]
pub struct Expression {
    /// The text between `$(` and `)`.
    pub source: String,
    tree: Arc<IdedExpr>,
    references: Arc<[Reference]>,
}

/// The source only.
impl std::fmt::Debug for Expression {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("Expression").field(&self.source).finish()
    }
}

/// What an expression reads: a scope and the fields after it, as far as they are written out.
/// `tasks.trends.rows` is scope `Tasks` and path `["trends", "rows"]`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    pub scope: ScopeName,
    /// At least one name.
    pub path: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ScopeName {
    Inputs,
    Tasks,
    Execution,
    /// What starts a run; in a LaunchPlan only.
    Trigger,
    /// A version of a dataset; in `where` only.
    Artifact,
}

impl ScopeName {
    pub(crate) const ALL: [Self; 5] = [Self::Inputs, Self::Tasks, Self::Execution, Self::Trigger, Self::Artifact];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inputs => "inputs",
            Self::Tasks => "tasks",
            Self::Execution => "execution",
            Self::Trigger => "trigger",
            Self::Artifact => "artifact",
        }
    }

    fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == name)
    }
}

/// As it is written: `tasks.trends.rows`.
impl std::fmt::Display for Reference {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}.{}", self.scope.as_str(), self.path.join("."))
    }
}

/// What expressions see. Each is a JSON object.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// Scalar inputs by name.
    pub inputs: serde_json::Value,
    /// Results by task: `rows`, `bytes`, `uri`, a row of values, `load.rows`, `load.watermark`, further outputs.
    pub tasks: serde_json::Value,
    /// `name`, `uid`, `startTime`, `scheduledTime`.
    pub execution: serde_json::Value,
    /// Of a LaunchPlan: what starts the run.
    pub trigger: serde_json::Value,
    /// Of `where`: a version of a dataset.
    pub artifact: serde_json::Value,
}

/// Text that is no expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ParseError {
    pub rule: Rule,
    pub message: String,
    /// Offset in the source, in bytes.
    pub offset: usize,
    pub suggestion: Option<String>,
}

/// An expression that failed on the values of a run. The message holds names and types and never a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("$({source_text}) failed: {message}")]
pub struct EvaluateError {
    pub source_text: String,
    pub message: String,
}

impl Expression {
    /// Parses what stands between `$(` and `)`.
    ///
    /// # Errors
    /// Where it is no CEL, is out of bounds, or reads something other than the scopes.
    pub fn parse(source: &str) -> Result<Self, ParseError> {
        match parse::plain(source) {
            Some(parsed) => Ok(parsed),
            None => on_large_stack(|| parse::parse(source)).unwrap_or_else(|message| {
                Err(ParseError { rule: Rule::ExpressionLimit, message, offset: 0, suggestion: None })
            }),
        }
    }

    /// As [`Expression::parse`], by a caller that runs [`on_large_stack`].
    pub(crate) fn parse_here(source: &str) -> Result<Self, ParseError> {
        parse::plain(source).map_or_else(|| parse::parse(source), Ok)
    }

    /// The expression that gives this text.
    pub(crate) fn constant(text: &str) -> Self {
        parse::constant(text)
    }

    /// What it reads, each once.
    pub fn references(&self) -> &[Reference] {
        &self.references
    }

    /// The reference that the whole expression is, such as `tasks.trends`.
    pub fn as_reference(&self) -> Option<&Reference> {
        match (parse::path_of(&self.tree), &*self.references) {
            (Some(_), [only]) => Some(only),
            _ => None,
        }
    }

    /// Its value as JSON; bytes as hexadecimal text. A double is a JSON number with a point (`1.0`), an integer one
    /// without.
    ///
    /// # Errors
    /// Where CEL fails: a missing key, a wrong type, an overflow; and where it takes too long.
    pub fn evaluate(&self, scope: &Scope) -> Result<serde_json::Value, EvaluateError> {
        // The evaluator recurses as the parser does; most expressions are a path and need neither.
        let value = match self.as_reference() {
            Some(reference) => evaluate::look_up(reference, scope),
            None => on_large_stack(|| evaluate::evaluate(&self.tree, &self.references, scope)).flatten(),
        };
        value.map_err(|message| EvaluateError { source_text: self.source.clone(), message })
    }
}
