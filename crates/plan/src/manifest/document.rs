use std::sync::Arc;

use pintail_api as api;

use super::tree::{Node, NodeValue, Position};
use super::{ConfigMap, Kustomization, Secret};
use crate::Rule;
use crate::problem::{FieldPath, Located, Problem};

/// One document of a file.
#[derive(Clone, Debug)]
pub struct Document {
    pub file: Arc<str>,
    /// Where it begins.
    pub at: Position,
    pub object: Object,
    pub(super) text: Arc<str>,
    pub(super) root: Node,
    /// Where `object` is not what was written, because that was reported.
    pub(super) mended: Vec<FieldPath>,
}

/// What a document holds. Where the file has problems, this is the nearest right object: good to look for further
/// problems in, never to be run.
#[derive(Clone, Debug)]
pub enum Object {
    Workflow(Box<api::Workflow>),
    Connection(Box<api::Connection>),
    Execution(Box<api::Execution>),
    Artifact(Box<api::Artifact>),
    LaunchPlan(Box<api::LaunchPlan>),
    WorkflowTest(Box<api::WorkflowTest>),
    Secret(Secret),
    ConfigMap(ConfigMap),
    Kustomization(Kustomization),
    /// Of another program; left alone.
    Other {
        api_version: String,
        kind: String,
    },
}

/// What stands at a place of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spot<'a> {
    /// The field or item that is there, or the last one before.
    pub path: FieldPath,
    /// Whether the place is in the field's name.
    pub is_key: bool,
    /// What the field says; empty where it is no text.
    pub text: &'a str,
    /// Byte of the text.
    pub offset: usize,
    /// Whether the place is behind the text.
    pub is_behind: bool,
}

impl Object {
    /// As the field `kind` has it.
    pub fn kind(&self) -> &str {
        match self {
            Self::Workflow(_) => "Workflow",
            Self::Connection(_) => "Connection",
            Self::Execution(_) => "Execution",
            Self::Artifact(_) => "Artifact",
            Self::LaunchPlan(_) => "LaunchPlan",
            Self::WorkflowTest(_) => "WorkflowTest",
            Self::Secret(_) => "Secret",
            Self::ConfigMap(_) => "ConfigMap",
            Self::Kustomization(_) => "Kustomization",
            Self::Other { kind, .. } => kind,
        }
    }

    /// `metadata.name`; none of a kustomization and of other programs' objects.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Workflow(object) => object.metadata.name.as_deref(),
            Self::Connection(object) => object.metadata.name.as_deref(),
            Self::Execution(object) => object.metadata.name.as_deref(),
            Self::Artifact(object) => object.metadata.name.as_deref(),
            Self::LaunchPlan(object) => object.metadata.name.as_deref(),
            Self::WorkflowTest(object) => object.metadata.name.as_deref(),
            Self::Secret(object) => Some(&object.name),
            Self::ConfigMap(object) => Some(&object.name),
            Self::Kustomization(_) | Self::Other { .. } => None,
        }
    }
}

impl Document {
    /// The problem with its place: that of its field, or of the nearest that is there.
    pub fn locate(&self, problem: Problem) -> Located {
        let (mut at, node) = self.root.locate(&problem.path);
        if let (Some(offset), Some(node)) = (problem.offset, node) {
            at = self.place_in_text(node, offset).unwrap_or(at);
        }
        // What is wrong with a field that should not be there is its name.
        if problem.rule == Rule::UnknownField {
            at = self.root.locate_key(&problem.path).unwrap_or(at);
        }
        self.located(at, problem)
    }

    /// Line and column of a field, from 1, or of the nearest that is there.
    pub fn place(&self, path: &FieldPath) -> (usize, usize) {
        let at = self.root.locate(path).0;
        (at.line, at.column)
    }

    /// What stands at a place, for an editor.
    pub fn spot(&self, at: Position) -> Spot<'_> {
        let (path, node, is_key) = self.root.at(at);
        let NodeValue::Text(text, _) = &node.value else {
            return Spot { path, is_key, text: "", offset: 0, is_behind: true };
        };
        // The places of a text's characters ascend.
        let offsets: Vec<usize> = text.char_indices().map(|(offset, _)| offset).chain([text.len()]).collect();
        let place = |offset: usize| self.place_in_text(node, offset).unwrap_or(node.at);
        let next = offsets.partition_point(|offset| place(*offset) < at);
        let offset = match offsets.get(next) {
            Some(offset) if place(*offset) == at => *offset,
            // White space has the place of what is before it.
            _ => next.checked_sub(1).and_then(|before| offsets.get(before)).copied().unwrap_or_default(),
        };
        let is_behind = next == offsets.len() && !text.ends_with(char::is_whitespace);
        Spot { path, is_key, text, offset, is_behind }
    }

    /// The problems with their places, in order of place. Those that only echo a problem of the file's own are left out:
    /// a field that has a wrong type there is not wrong in another way here.
    pub fn locate_all(&self, problems: Vec<Problem>) -> Vec<Located> {
        let is_echo =
            |problem: &Problem| self.mended.iter().any(|mended| problem.path.segments().starts_with(mended.segments()));
        let mut located: Vec<Located> =
            problems.into_iter().filter(|problem| !is_echo(problem)).map(|problem| self.locate(problem)).collect();
        located.sort_by_key(|located| (located.line, located.column));
        located
    }

    pub(super) fn located(&self, at: Position, problem: Problem) -> Located {
        Located { file: self.file.to_string(), line: at.line, column: at.column, problem }
    }

    /// The place of an offset in a scalar's text, where the text stands in the file as it is read.
    fn place_in_text(&self, node: &Node, offset: usize) -> Option<Position> {
        let NodeValue::Text(text, style) = &node.value else { return None };
        super::place::in_source(&self.text, node.at, text, *style, offset)
    }
}
