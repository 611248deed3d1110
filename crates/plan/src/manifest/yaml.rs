//! From YAML's events to trees, one a document, refusing what two parsers read differently.

use std::borrow::Cow;
use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Span, StrInput, Tag};

use super::scalar;
use super::tree::{Entry, Node, NodeValue, Position, Style};
use crate::Rule;
use crate::expression::is_cut;
use crate::problem::{FieldPath, MAX_PROBLEMS, Problem, excerpt};

/// A thousand tasks with long queries are a megabyte; parsing takes memory of some times the size.
pub(super) const FILE_BYTES_MAX: usize = 4 << 20;
/// More are split over files by everyone.
const DOCUMENTS_MAX: usize = 1000;
/// A task of fifty values in a workflow of a thousand tasks makes 50,000.
const NODES_MAX: usize = 200_000;
/// The deepest field of a kind lies 10 deep; every later check recurses on the tree.
const DEPTH_MAX: usize = 40;

/// A problem with its place.
pub(super) type Found = (Position, Problem);

/// A document of YAML.
pub(super) struct Raw {
    pub root: Node,
    /// What was found in it, apart from errors that end the file.
    pub found: Vec<Found>,
}

/// The documents of a text, and what keeps the rest of it from being read.
pub(super) fn parse(text: &str) -> (Vec<Raw>, Option<Found>) {
    if text.len() > FILE_BYTES_MAX {
        let message = format!("the file has {} KiB, more than {}", text.len() >> 10, FILE_BYTES_MAX >> 10);
        return (
            Vec::new(),
            Some((Position { line: 1, column: 1 }, Problem::new(Rule::FileLimit, FieldPath::root(), message))),
        );
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader = Reader { text, documents: Vec::new(), current: None, nodes: 0 };
    // A panic in the parser of YAML is a file that cannot be read, not the end of the process.
    let end = catch_unwind(AssertUnwindSafe(|| reader.read()));
    let fatal = match end {
        Ok(Ok(())) => line_breaks(text),
        Ok(Err(found)) => Some(found),
        Err(_) => {
            let problem = Problem::new(Rule::YamlSyntax, FieldPath::root(), "the file cannot be read as YAML");
            Some((Position { line: 1, column: 1 }, problem))
        }
    };
    (reader.documents, fatal)
}

/// Characters that end a line in YAML 1.1 and are text in YAML 1.2.
fn line_breaks(text: &str) -> Option<Found> {
    let (line, content) =
        text.lines().enumerate().find(|(_, line)| line.contains(['\u{85}', '\u{2028}', '\u{2029}']))?;
    let column = content.chars().position(|char| matches!(char, '\u{85}' | '\u{2028}' | '\u{2029}'))?;
    let message = "here is a special character that ends the line to some parsers of YAML; remove it";
    let problem = Problem::new(Rule::AmbiguousYaml, FieldPath::root(), message);
    Some((Position { line: line + 1, column: column + 1 }, problem))
}

struct Reader<'a> {
    text: &'a str,
    documents: Vec<Raw>,
    current: Option<Builder>,
    nodes: usize,
}

impl Reader<'_> {
    fn read(&mut self) -> Result<(), Found> {
        let mut parser: Parser<'_, StrInput<'_>> = Parser::new_from_str(self.text);
        while let Some(event) = parser.next_event() {
            match event {
                Ok((event, span)) => self.event(event, span)?,
                Err(error) => {
                    let found = self.syntax(&error);
                    let already = self.current.take().map(|builder| builder.raw.found).unwrap_or_default();
                    // An expression that YAML has cut often breaks what follows on its line.
                    let cause = already
                        .iter()
                        .any(|(at, problem)| at.line == found.0.line && problem.rule == Rule::CutExpression);
                    self.documents.push(Raw {
                        root: Node { at: found.0, value: NodeValue::Broken(String::new()) },
                        found: already,
                    });
                    return if cause { Ok(()) } else { Err(found) };
                }
            }
        }
        Ok(())
    }

    fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), Found> {
        let at = position(&span.start);
        let limit = |message: String| Err((at, Problem::new(Rule::FileLimit, FieldPath::root(), message)));
        match event {
            Event::DocumentStart(_) => {
                if self.documents.len() >= DOCUMENTS_MAX {
                    return limit(format!("the file has more than {DOCUMENTS_MAX} documents"));
                }
                self.current = Some(Builder::new());
                return Ok(());
            }
            Event::DocumentEnd => {
                self.documents.extend(self.current.take().map(|builder| builder.raw));
                return Ok(());
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd => return Ok(()),
            _ => {}
        }
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            return limit(format!("the file has more than {NODES_MAX} values"));
        }
        let Some(builder) = &mut self.current else { return Ok(()) };
        if builder.frames.len() > DEPTH_MAX {
            return limit(too_deep());
        }
        builder.event(event, at);
        Ok(())
    }

    fn syntax(&self, error: &ScanError) -> Found {
        let at = position(error.marker());
        if error.info().contains("recursion limit") {
            return (at, Problem::new(Rule::FileLimit, FieldPath::root(), too_deep()));
        }
        let line = self.text.lines().nth(at.line - 1).unwrap_or_default();
        let indentation: String = line.chars().take_while(|char| char.is_whitespace()).collect();
        let message = if indentation.contains('\t') {
            "the line is indented by a tab, and YAML takes spaces only".to_owned()
        } else {
            format!("the file is no YAML from here on: {}", excerpt(error.info()))
        };
        let mut problem = Problem::new(Rule::YamlSyntax, FieldPath::root(), message);
        if line.contains("$(") {
            problem = problem.suggest(Some("`\"$(…)\"`, with quotes around the expression"));
        } else if line.contains("{{") {
            problem = problem.suggest(Some("`$(…)`, which is how Pintail writes expressions"));
        } else if error.info().contains("mapping values") {
            problem = problem.suggest(Some("quotes around the text that holds `: `"));
        }
        (at, problem)
    }
}

fn too_deep() -> String {
    format!("values are nested more than {DEPTH_MAX} deep")
}

fn position(marker: &Marker) -> Position {
    Position { line: marker.line().max(1), column: marker.col() + 1 }
}

/// One document as it is put together.
struct Builder {
    raw: Raw,
    frames: Vec<Frame>,
}

struct Frame {
    at: Position,
    /// Something in it was reported that makes its content worthless.
    is_broken: bool,
    content: Content,
}

enum Content {
    List(Vec<Node>),
    Map {
        entries: Vec<Entry>,
        keys: HashSet<String>,
        /// A key whose value has not come; without a name where the entry is dropped.
        pending: Option<(Option<String>, Position)>,
        /// An expression was cut by a comma, and what follows without a value is the rest of it.
        has_cut: bool,
    },
}

impl Builder {
    fn new() -> Self {
        let root = Node { at: Position { line: 1, column: 1 }, value: NodeValue::Null };
        Self { raw: Raw { root, found: Vec::new() }, frames: Vec::new() }
    }

    fn event(&mut self, event: Event<'_>, at: Position) {
        match event {
            Event::SequenceStart(anchor, tag) => {
                self.check_properties(anchor, tag.as_ref(), at);
                self.frames.push(Frame { at, is_broken: false, content: Content::List(Vec::new()) });
            }
            Event::MappingStart(anchor, tag) => {
                self.check_properties(anchor, tag.as_ref(), at);
                let content = Content::Map { entries: Vec::new(), keys: HashSet::new(), pending: None, has_cut: false };
                self.frames.push(Frame { at, is_broken: false, content });
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(frame) = self.frames.pop() else { return };
                let value = match frame.content {
                    _ if frame.is_broken => NodeValue::Broken(String::new()),
                    Content::List(items) => NodeValue::List(items),
                    Content::Map { entries, .. } => NodeValue::Map(entries),
                };
                self.add(Node { at: frame.at, value });
            }
            Event::Alias(_) => {
                self.report(
                    Rule::AnchorOrTag,
                    at,
                    "`*` names an anchor elsewhere in the file; write the value out here",
                    None,
                );
                self.add(Node { at, value: NodeValue::Broken(String::new()) });
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.check_properties(anchor, tag.as_ref(), at);
                self.scalar(&text, style, at);
            }
            _ => {}
        }
    }

    fn check_properties(&mut self, anchor: usize, tag: Option<&Cow<'_, Tag>>, at: Position) {
        if anchor != 0 {
            self.report(Rule::AnchorOrTag, at, "`&` names a value for use elsewhere; write it out at each place", None);
        }
        if let Some(tag) = tag {
            let message = format!("the tag `{}` is read differently by different tools", excerpt(&tag.to_string()));
            self.report(Rule::AnchorOrTag, at, &message, Some("quotes where text is meant".to_owned()));
        }
    }

    fn scalar(&mut self, text: &str, style: ScalarStyle, at: Position) {
        if self.expects_key() {
            self.key(text, style, at);
            return;
        }
        let value = match style {
            ScalarStyle::Plain if is_cut(text) => {
                let message = "YAML ends this value before its expression ends, at a ` #`, or at a `, ` or a bracket within `{ }` or `[ ]`";
                self.report(Rule::CutExpression, at, message, Some("`\"$(…)\"`, with quotes around it".to_owned()));
                if let Some(Frame { content: Content::Map { has_cut, .. }, .. }) = self.frames.last_mut() {
                    *has_cut = true;
                }
                NodeValue::Broken(text.to_owned())
            }
            ScalarStyle::Plain => scalar::resolve(text).unwrap_or_else(|(message, meant)| {
                self.report(Rule::AmbiguousYaml, at, &message, Some(meant));
                NodeValue::Broken(text.to_owned())
            }),
            ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted => NodeValue::Text(text.to_owned(), Style::Quoted),
            ScalarStyle::Literal => NodeValue::Text(text.to_owned(), Style::Literal),
            ScalarStyle::Folded => NodeValue::Text(text.to_owned(), Style::Folded),
        };
        self.add(Node { at, value });
    }

    fn expects_key(&self) -> bool {
        matches!(self.frames.last(), Some(Frame { content: Content::Map { pending: None, .. }, .. }))
    }

    fn key(&mut self, text: &str, style: ScalarStyle, at: Position) {
        let mut name = Some(text.to_owned());
        if style == ScalarStyle::Plain {
            if text == "<<" {
                self.report(
                    Rule::AnchorOrTag,
                    at,
                    "`<<` merges another mapping into this one; write its fields out",
                    None,
                );
                name = None;
            } else {
                match scalar::resolve(text) {
                    Ok(NodeValue::Text(..)) => {}
                    Ok(_) => {
                        let message = format!("the key `{}` is no text", excerpt(text));
                        self.report(Rule::UnquotedText, at, &message, Some(format!("`\"{}\"`", excerpt(text))));
                    }
                    Err((message, _)) => {
                        self.report(
                            Rule::AmbiguousYaml,
                            at,
                            &format!("as a key, {message}"),
                            Some(format!("`\"{text}\"`")),
                        );
                    }
                }
            }
        }
        let Some(Frame { content: Content::Map { keys, pending, .. }, .. }) = self.frames.last_mut() else { return };
        let is_new = name.as_ref().is_none_or(|name| keys.insert(name.clone()));
        *pending = Some((name.filter(|_| is_new), at));
        if !is_new {
            let message = format!("`{}` stands in this mapping already", excerpt(text));
            self.report(Rule::DuplicateKey, at, &message, None);
        }
    }

    /// Puts a finished value where it belongs.
    fn add(&mut self, node: Node) {
        let at = node.at;
        match self.frames.last_mut().map(|frame| &mut frame.content) {
            None => self.raw.root = node,
            Some(Content::List(items)) => items.push(node),
            Some(Content::Map { entries, pending, has_cut, .. }) => match pending.take() {
                Some((Some(key), key_at)) => {
                    if !(*has_cut && matches!(node.value, NodeValue::Null)) {
                        entries.push(Entry { key, key_at, value: node });
                    }
                }
                Some((None, _)) => {}
                None => {
                    *pending = Some((None, at));
                    if let Some(frame) = self.frames.last_mut() {
                        frame.is_broken = true;
                    }
                    let message = "the key of a mapping is a list or a mapping, and must be text";
                    self.report(
                        Rule::YamlSyntax,
                        at,
                        message,
                        Some("`$(…)` for `{{ … }}`, or quotes around the key".to_owned()),
                    );
                }
            },
        }
    }

    fn report(&mut self, rule: Rule, at: Position, message: &str, suggestion: Option<String>) {
        if self.raw.found.len() < MAX_PROBLEMS {
            let path = self.path();
            self.raw.found.push((at, Problem::new(rule, path, message).suggest(suggestion)));
        }
    }

    fn path(&self) -> FieldPath {
        self.frames.iter().fold(FieldPath::root(), |path, frame| match &frame.content {
            Content::List(items) => path.index(items.len()),
            Content::Map { pending: Some((Some(key), _)), .. } => path.field(key),
            Content::Map { .. } => path,
        })
    }
}
