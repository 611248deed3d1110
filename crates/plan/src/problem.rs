use std::fmt;

use crate::Rule;

/// One thing that is wrong with a manifest, for its author.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub rule: Rule,
    /// The field that is wrong, or the one that should hold what is missing.
    pub path: FieldPath,
    /// Offset in the field's text, in bytes, where the problem is at one place of a longer text.
    pub offset: Option<usize>,
    pub message: String,
    /// What to write instead, where there is a good guess.
    pub suggestion: Option<String>,
}

impl Problem {
    pub fn new(rule: Rule, path: FieldPath, message: impl Into<String>) -> Self {
        Self { rule, path, offset: None, message: message.into(), suggestion: None }
    }

    pub fn suggest(mut self, suggestion: Option<impl Into<String>>) -> Self {
        self.suggestion = suggestion.map(Into::into);
        self
    }

    pub fn at(mut self, offset: usize) -> Self {
        self.offset = Some(offset);
        self
    }
}

/// `<path>: <message>; <suggestion> [<rule>]`, on one line.
impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.path, self.message)?;
        if let Some(suggestion) = &self.suggestion {
            write!(formatter, "; did you mean {suggestion}?")?;
        }
        write!(formatter, " [{}]", self.rule.id())
    }
}

/// A problem with its place in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// The file as it was named by the caller.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    pub problem: Problem,
}

/// `<file>:<line>:<column>: <problem>`
impl fmt::Display for Located {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}:{}: {}", self.file, self.line, self.column, self.problem)
    }
}

/// Where a value stands in an object, such as `spec.tasks[2].uses[0]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FieldPath(Vec<Segment>);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Segment {
    Field(String),
    Index(usize),
}

impl FieldPath {
    /// The whole document.
    pub fn root() -> Self {
        Self::default()
    }

    pub fn field(&self, name: &str) -> Self {
        self.with(Segment::Field(name.to_owned()))
    }

    pub fn index(&self, index: usize) -> Self {
        self.with(Segment::Index(index))
    }

    pub fn segments(&self) -> &[Segment] {
        &self.0
    }

    fn with(&self, segment: Segment) -> Self {
        let mut segments = self.0.clone();
        segments.push(segment);
        Self(segments)
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return formatter.write_str("(document)");
        }
        for (position, segment) in self.0.iter().enumerate() {
            match segment {
                Segment::Index(index) => write!(formatter, "[{index}]")?,
                Segment::Field(name) if is_plain(name) => {
                    write!(formatter, "{}{name}", if position == 0 { "" } else { "." })?;
                }
                Segment::Field(name) => write!(formatter, "[{name:?}]")?,
            }
        }
        Ok(())
    }
}

fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|char| char.is_ascii_alphanumeric() || char == '_' || char == '-')
}

/// The most problems that are reported of one file or workflow: a person reads no more, and input that is wrong in
/// every node must not cost memory without bound.
pub(crate) const MAX_PROBLEMS: usize = 500;

/// How many edits still look like a slip of the hand.
fn edits_max(length: usize) -> usize {
    match length {
        0..=2 => 0,
        3..=5 => 1,
        _ => 2,
    }
}

/// The candidate that `name` was most likely meant to be.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Longer words cost time and are never typed by hand.
    const NAME_BYTES_MAX: usize = 64;
    if name.len() > NAME_BYTES_MAX {
        return None;
    }
    let wanted = name.to_lowercase();
    let length = wanted.chars().count();
    candidates
        .into_iter()
        .filter(|candidate| candidate.len().abs_diff(wanted.len()) <= 3)
        .filter_map(|candidate| {
            let lower = candidate.to_lowercase();
            let loose = |text: &str| text.replace(['-', '_'], "");
            let distance = if lower == wanted || loose(&lower) == loose(&wanted) {
                0
            } else {
                strsim::osa_distance(&lower, &wanted)
            };
            (distance <= edits_max(length).max(usize::from(length > 1 && lower.starts_with(&wanted))))
                .then_some((distance, candidate))
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// `a`, `b` and `c`, at most ten of them, for a message.
pub(crate) fn listing<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    const SHOWN_MAX: usize = 10;
    let names: Vec<&str> = names.into_iter().collect();
    let shown: Vec<String> = names.iter().take(SHOWN_MAX).map(|name| format!("`{name}`")).collect();
    match (names.len().saturating_sub(SHOWN_MAX), shown.split_last()) {
        (_, None) => "none".to_owned(),
        (0, Some((only, []))) => only.clone(),
        (0, Some((last, others))) => format!("{} and {last}", others.join(", ")),
        (more, _) => format!("{} and {more} more", shown.join(", ")),
    }
}

/// `text` for a message: one line, at most 60 characters.
pub(crate) fn excerpt(text: &str) -> String {
    const SHOWN_MAX: usize = 60;
    let line: String = text.chars().map(|char| if char.is_control() { ' ' } else { char }).take(SHOWN_MAX).collect();
    if text.chars().nth(SHOWN_MAX).is_some() { format!("{line}…") } else { line }
}
