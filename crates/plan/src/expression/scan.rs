//! A look at the text before CEL's parser sees it, which recurses on brackets and would overflow its stack.

use super::ParseError;
use crate::Rule;

/// Expressions are for small decisions; the parser's time grows with the length.
pub(crate) const SOURCE_BYTES_MAX: usize = 1024;
/// Measured: the parser of a debug build overflows 8 MB of stack at 50 nested brackets.
pub(crate) const NESTING_MAX: usize = 32;

/// Where the expression that begins at the start of `text` ends: the offset of the `)` that is not opened in it.
///
/// # Errors
/// Where brackets do not match or a string does not end; `Ok(None)` where the text ends first.
pub(crate) fn closing(text: &str) -> Result<Option<usize>, ParseError> {
    Scan::new(text).run(true)
}

/// Checks the bounds of a whole expression.
pub(crate) fn check(source: &str) -> Result<(), ParseError> {
    if source.len() > SOURCE_BYTES_MAX {
        let message = format!("the expression has {} bytes, more than {SOURCE_BYTES_MAX}", source.len());
        return Err(limit(message, 0));
    }
    if source.trim().is_empty() {
        return Err(syntax("the expression is empty", 0));
    }
    Scan::new(source).run(false).map(|_| ())
}

struct Scan<'a> {
    text: &'a str,
    at: usize,
    open: Vec<(u8, usize)>,
    /// `?` of conditions, on whose right side the parser recurses too.
    conditions: usize,
}

impl<'a> Scan<'a> {
    fn new(text: &'a str) -> Self {
        Self { text, at: 0, open: Vec::new(), conditions: 0 }
    }

    fn run(mut self, to_closing: bool) -> Result<Option<usize>, ParseError> {
        let bytes = self.text.as_bytes();
        while let Some(&byte) = bytes.get(self.at) {
            match byte {
                b'\'' | b'"' => self.string(byte)?,
                b'(' | b'[' | b'{' => self.open(byte)?,
                b')' if to_closing && self.open.is_empty() => return Ok(Some(self.at)),
                b')' | b']' | b'}' => self.close(byte)?,
                b'?' => self.condition()?,
                b'/' if bytes.get(self.at + 1) == Some(&b'/') => {
                    return Err(syntax("comments are not allowed in expressions", self.at));
                }
                _ => {}
            }
            self.at += 1;
        }
        match self.open.last() {
            Some((bracket, at)) if !to_closing => Err(syntax(format!("`{}` is not closed", char::from(*bracket)), *at)),
            _ => Ok(None),
        }
    }

    fn open(&mut self, bracket: u8) -> Result<(), ParseError> {
        self.open.push((bracket, self.at));
        if self.open.len() > NESTING_MAX {
            return Err(limit(format!("brackets are nested more than {NESTING_MAX} deep"), self.at));
        }
        Ok(())
    }

    fn close(&mut self, bracket: u8) -> Result<(), ParseError> {
        let opening = match bracket {
            b')' => b'(',
            b']' => b'[',
            _ => b'{',
        };
        match self.open.pop() {
            Some((open, _)) if open == opening => Ok(()),
            _ => Err(syntax(format!("`{}` closes nothing", char::from(bracket)), self.at)),
        }
    }

    fn condition(&mut self) -> Result<(), ParseError> {
        self.conditions += 1;
        if self.conditions > NESTING_MAX {
            return Err(limit(format!("the expression has more than {NESTING_MAX} conditions"), self.at));
        }
        Ok(())
    }

    /// Moves to the closing quote of the string that begins here; `r"…"` has no escapes, `"""…"""` holds quotes.
    fn string(&mut self, quote: u8) -> Result<(), ParseError> {
        let bytes = self.text.as_bytes();
        let start = self.at;
        let raw = start > 0 && matches!(bytes[start - 1], b'r' | b'R');
        let triple = bytes[start..].starts_with(&[quote; 3]);
        let length = if triple { 3 } else { 1 };
        self.at += length;
        while let Some(rest) = bytes.get(self.at..).filter(|rest| !rest.is_empty()) {
            if rest[0] == b'\\' && !raw {
                self.at += 2;
            } else if rest.starts_with(&[quote; 3][..length]) {
                self.at += length - 1;
                return Ok(());
            } else {
                self.at += 1;
            }
        }
        Err(syntax("a string is not closed", start))
    }
}

pub(super) fn syntax(message: impl Into<String>, offset: usize) -> ParseError {
    ParseError { rule: Rule::ExpressionSyntax, message: message.into(), offset, suggestion: None }
}

pub(super) fn limit(message: impl Into<String>, offset: usize) -> ParseError {
    ParseError { rule: Rule::ExpressionLimit, message: message.into(), offset, suggestion: None }
}
