//! `$(…)`: CEL expressions and text that holds them.

/// One CEL expression, found to be within bounds.
#[derive(Clone, Debug)]
pub struct Expression {
    /// The text between `$(` and `)`.
    pub source: String,
}

/// Text in which `$(…)` is rendered; `$$(` is a literal `$(`.
#[derive(Clone, Debug)]
pub struct Template {
    pub source: String,
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
}

/// An expression that failed on the values of a run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("$({source_text}) failed: {message}")]
pub struct EvaluateError {
    pub source_text: String,
    pub message: String,
}

impl Expression {
    /// Its value as JSON; timestamps as RFC 3339 text, bytes as hexadecimal text.
    ///
    /// # Errors
    /// Where CEL fails: a missing key, a wrong type, an overflow.
    pub fn evaluate(&self, _scope: &Scope) -> Result<serde_json::Value, EvaluateError> {
        Err(EvaluateError { source_text: self.source.clone(), message: "not built".to_owned() })
    }
}

impl Template {
    /// The text with every expression rendered.
    ///
    /// # Errors
    /// As [`Expression::evaluate`].
    pub fn render(&self, _scope: &Scope) -> Result<String, EvaluateError> {
        Err(EvaluateError { source_text: self.source.clone(), message: "not built".to_owned() })
    }
}
