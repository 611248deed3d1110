use std::sync::Arc;

use serde_json::Value as Json;

use super::{EvaluateError, Expression, ParseError, Scope, scan};

/// Text in which `$(…)` is rendered; `$$(` is a literal `$(`.
#[derive(Clone, Debug)]
pub struct Template {
    pub source: String,
    parts: Arc<[Part]>,
}

#[derive(Clone, Debug)]
enum Part {
    Text(String),
    Expression(Expression),
}

impl Template {
    /// Splits text at `$(…)`.
    ///
    /// # Errors
    /// Every expression that is wrong; offsets count from the start of the text.
    pub fn parse(text: &str) -> Result<Self, Vec<ParseError>> {
        Self::parse_with(text, Expression::parse)
    }

    /// As [`Template::parse`], by a caller that runs on a large stack.
    pub(crate) fn parse_here(text: &str) -> Result<Self, Vec<ParseError>> {
        Self::parse_with(text, Expression::parse_here)
    }

    fn parse_with(text: &str, parse: impl Fn(&str) -> Result<Expression, ParseError>) -> Result<Self, Vec<ParseError>> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut errors = Vec::new();
        let mut at = 0;
        while let Some(found) = text[at..].find("$(") {
            let start = at + found;
            let body = start + 2;
            if text[at..start].ends_with('$') {
                literal.push_str(&text[at..start]);
                literal.push('(');
                at = body;
                continue;
            }
            literal.push_str(&text[at..start]);
            let end = match scan::closing(&text[body..]) {
                Ok(Some(length)) => body + length,
                Ok(None) => {
                    errors.push(scan::syntax("`$(` is not closed; a literal `$(` is written `$$(`", start));
                    break;
                }
                Err(error) => {
                    errors.push(shift(error, body));
                    break;
                }
            };
            match parse(&text[body..end]) {
                Ok(expression) => {
                    if !literal.is_empty() {
                        parts.push(Part::Text(std::mem::take(&mut literal)));
                    }
                    parts.push(Part::Expression(expression));
                }
                Err(error) => errors.push(shift(error, body)),
            }
            at = end + 1;
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        literal.push_str(&text[at..]);
        if !literal.is_empty() {
            parts.push(Part::Text(literal));
        }
        Ok(Self { source: text.to_owned(), parts: parts.into() })
    }

    /// The expression that the whole text is: such a field keeps the expression's type.
    pub fn sole_expression(&self) -> Option<&Expression> {
        match &*self.parts {
            [Part::Expression(expression)] => Some(expression),
            _ => None,
        }
    }

    /// The text, where it holds no expression; `$$(` is `$(` in it.
    pub fn literal(&self) -> Option<&str> {
        match &*self.parts {
            [] => Some(""),
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// Its expressions from left to right.
    pub fn expressions(&self) -> impl Iterator<Item = &Expression> {
        self.parts.iter().filter_map(|part| match part {
            Part::Expression(expression) => Some(expression),
            Part::Text(_) => None,
        })
    }

    /// The text with every expression rendered: text as it is, numbers and booleans as in JSON (`1`, `1.0`, `true`),
    /// lists and maps as JSON.
    ///
    /// # Errors
    /// As [`Expression::evaluate`]; and where a value is null, which no text shows rightly.
    pub fn render(&self, scope: &Scope) -> Result<String, EvaluateError> {
        let mut text = String::with_capacity(self.source.len());
        for part in &*self.parts {
            match part {
                Part::Text(literal) => text.push_str(literal),
                Part::Expression(expression) => match expression.evaluate(scope)? {
                    Json::String(value) => text.push_str(&value),
                    Json::Null => return Err(null_in_text(expression)),
                    value => text.push_str(&value.to_string()),
                },
            }
        }
        Ok(text)
    }

    /// The value: of the expression's own type where the whole text is one, else the rendered text.
    ///
    /// # Errors
    /// As [`Template::render`]; null is a value here where the whole text is one expression.
    pub fn evaluate(&self, scope: &Scope) -> Result<Json, EvaluateError> {
        match self.sole_expression() {
            Some(expression) => expression.evaluate(scope),
            None => self.render(scope).map(Json::String),
        }
    }
}

fn shift(error: ParseError, by: usize) -> ParseError {
    ParseError { offset: error.offset + by, ..error }
}

fn null_in_text(expression: &Expression) -> EvaluateError {
    let source_text = expression.source.clone();
    let message = format!(
        "it is null, which cannot stand in text; say what stands there instead: $({source_text} == null ? \"none\" : {source_text})"
    );
    EvaluateError { source_text, message }
}

/// Whether text ends within an expression.
pub(crate) fn is_cut(text: &str) -> bool {
    let mut rest = text;
    while let Some(at) = rest.find("$(") {
        let body = &rest[at + 2..];
        if rest[..at].ends_with('$') {
            rest = body;
            continue;
        }
        match scan::closing(body) {
            Ok(Some(length)) => rest = &body[length + 1..],
            Ok(None) => return true,
            // Cut within a string; any other error is the expression's own.
            Err(error) => return error.message.contains("not closed"),
        }
    }
    false
}
