use std::collections::BTreeMap;

use pintail_api as api;
use pintail_engine::{Lock, LockMode, Need, NeedKind, Runs, TaskIndex, TaskNode};
use serde_json::Value as Json;

use super::references::{Meaning, Place};
use super::{Compiler, MainResult, names, quoted};
use crate::Rule;
use crate::expression::{Expression, Kind, Reference, ScopeName, Template};
use crate::model::{BindingValue, DataType, PlannedBinding, PlannedConnection, PlannedTask};
use crate::problem::{FieldPath, Problem};

/// One task as it is put together.
pub(super) struct Draft<'a> {
    pub task: &'a api::Task,
    pub index: TaskIndex,
    pub path: FieldPath,
    pub bindings: Vec<PlannedBinding>,
    /// Connections by name, and whether they are written.
    pub connections: BTreeMap<String, bool>,
    needs: BTreeMap<TaskIndex, NeedKind>,
}

impl<'a> Draft<'a> {
    pub fn place(&self) -> Place<'a> {
        Place::Task(&self.task.name)
    }

    pub fn touch(&mut self, connection: &str, writes: bool) {
        *self.connections.entry(connection.to_owned()).or_default() |= writes;
    }

    fn need(&mut self, task: TaskIndex) {
        self.needs.insert(task, NeedKind::Result);
    }

    pub fn binding(&self, name: &str) -> Option<&PlannedBinding> {
        self.bindings.iter().find(|binding| binding.name == name)
    }
}

impl<'a> Compiler<'a> {
    pub(super) fn compile_task(&mut self, position: usize, task: &'a api::Task) -> (PlannedTask, TaskNode) {
        let index = TaskIndex(u32::try_from(position).unwrap_or(u32::MAX));
        let path = FieldPath::root().field("spec").field("tasks").index(position);
        let mut draft =
            Draft { task, index, path, bindings: Vec::new(), connections: BTreeMap::new(), needs: BTreeMap::new() };
        self.bind_uses(&mut draft);
        self.bind_with(&mut draft);
        self.check_connections(&mut draft);
        let when = self.condition(&mut draft);
        let (work, results) = self.compile_work(&mut draft);
        self.depends_on(&mut draft);
        self.check_names_of_task(&draft);
        self.check_secret_parameters(&draft);
        let policy = self.policy(&draft);
        let pod = self.pod(&draft);
        let node = TaskNode {
            name: task.name.clone(),
            needs: draft.needs.iter().map(|(task, kind)| Need { task: *task, kind: *kind }).collect(),
            runs: match task.runs.unwrap_or_default() {
                api::Runs::OnSuccess => Runs::OnSuccess,
                api::Runs::OnFailure => Runs::OnFailure,
                api::Runs::Always => Runs::Always,
            },
            has_condition: task.when.is_some(),
            locks: self.locks(&draft),
            retries: policy.retries,
            timeout: Some(policy.timeout),
        };
        let connections =
            draft.connections.into_iter().map(|(name, writes)| PlannedConnection { name, writes }).collect();
        let planned = PlannedTask {
            name: task.name.clone(),
            bindings: draft.bindings,
            connections,
            when,
            work,
            results,
            resources: policy.resources,
            pod,
        };
        (planned, node)
    }

    /// As [`Compiler::template`], and what it reads of other tasks is needed.
    pub(super) fn task_template(&mut self, draft: &mut Draft<'a>, text: &str, path: &FieldPath) -> Option<Template> {
        let template = self.template(text, path, draft.place())?;
        for expression in template.expressions() {
            self.need_references(draft, expression);
        }
        Some(template)
    }

    fn need_references(&self, draft: &mut Draft<'a>, expression: &Expression) {
        for reference in expression.references().iter().filter(|reference| reference.scope == ScopeName::Tasks) {
            if let Some(task) = reference.path.first().and_then(|name| self.tasks.get(name.as_str())) {
                draft.need(task.index);
            }
        }
    }

    fn bind_uses(&mut self, draft: &mut Draft<'a>) {
        for (position, name) in draft.task.uses.iter().enumerate() {
            let path = draft.path.field("uses").index(position);
            if draft.task.uses[..position].contains(name) {
                self.problem(Rule::DuplicateName, &path, format!("`{name}` stands in `uses` twice"));
                continue;
            }
            if name == &draft.task.name {
                self.problem(Rule::SelfReference, &path, format!("task `{name}` cannot use its own result"));
                continue;
            }
            let Some(meaning) = self.used(name, &path) else { continue };
            if meaning == Meaning::Row {
                let message =
                    format!("`{name}` is a row of values (`kind: Values`) and no table; name the values that you need");
                let meant = format!("`with: {{ value: $(tasks.{name}.<column>) }}`");
                self.report(Problem::new(Rule::WrongResultKind, path, message).suggest(Some(meant)));
                continue;
            }
            self.bind(draft, name, meaning);
        }
    }

    /// What a name in `uses` stands for.
    fn used(&mut self, name: &str, path: &FieldPath) -> Option<Meaning<'a>> {
        if self.inputs.contains_key(name) {
            return self.meaning(&Reference { scope: ScopeName::Inputs, path: vec![name.to_owned()] }).ok();
        }
        let Some(task) = self.tasks.get(name) else {
            let message = format!("there is no input or task `{}`", crate::problem::excerpt(name));
            let known = self.surroundings.connections.contains_key(name);
            let suggestion =
                if known { Some(format!("`reads: [{name}]`, for a connection")) } else { self.nearest_name(name) };
            self.report(Problem::new(Rule::UnknownName, path.clone(), message).suggest(suggestion));
            return None;
        };
        let what = match task.main {
            MainResult::Export => "an export",
            MainResult::Copy => "a copy",
            MainResult::Notify => "a message",
            MainResult::None => {
                let example = task.outputs.first().map_or("out", |output| &output.name);
                let message = format!("task `{name}` has no result of its own, only further outputs");
                let meant = format!("`with: {{ {example}: $(tasks.{name}.{example}) }}`");
                self.report(Problem::new(Rule::WrongResultKind, path.clone(), message).suggest(Some(meant)));
                return None;
            }
            _ => return self.meaning(&Reference { scope: ScopeName::Tasks, path: vec![name.to_owned()] }).ok(),
        };
        let message = format!("task `{name}` is {what} and has no table to use");
        let meant = format!("`dependsOn: [{name}]`, to run after it");
        self.report(Problem::new(Rule::WrongResultKind, path.clone(), message).suggest(Some(meant)));
        None
    }

    fn bind(&mut self, draft: &mut Draft<'a>, name: &str, meaning: Meaning<'a>) {
        let value = match meaning {
            Meaning::InputTable => BindingValue::InputTable(name.to_owned()),
            Meaning::Table(task, output) => {
                draft.need(task);
                BindingValue::TaskTable(task, output.to_owned())
            }
            Meaning::Loaded(task) => {
                draft.need(task);
                let Some((connection, table)) = self.load_target(task) else { return };
                draft.touch(&connection, false);
                BindingValue::LoadedTable { task, connection, table }
            }
            Meaning::File(task) => {
                draft.need(task);
                BindingValue::TaskFile(task)
            }
            Meaning::Row => return,
            Meaning::Value(_) => {
                let Ok(expression) = Expression::parse_here(&format!("inputs.{name}")) else { return };
                let data_type = self.input_type(name);
                BindingValue::Scalar { expression, data_type }
            }
        };
        draft.bindings.push(PlannedBinding { name: name.to_owned(), value });
    }

    fn input_type(&self, name: &str) -> Option<DataType> {
        let shape = self.inputs.get(name)?;
        shape.data_type.as_ref().map(|data_type| DataType(data_type.to_string()))
    }

    fn bind_with(&mut self, draft: &mut Draft<'a>) {
        for (name, binding) in &draft.task.with {
            let path = draft.path.field("with").field(name);
            self.problems.extend(names::check(name, "parameter or table", &path));
            if draft.task.uses.contains(name) {
                self.problem(Rule::DuplicateName, &path, format!("`{name}` stands in `uses` and in `with`"));
            }
            let text = match &binding.0 {
                Json::String(text) => text,
                Json::Object(_) => {
                    let message = "`with` takes a table `$(tasks.x)`, a scalar or an expression; bind a table from outside to an input and use that";
                    self.problem(Rule::TableSource, &path, message);
                    continue;
                }
                value => {
                    self.bind_constant(draft, name, value, &path);
                    continue;
                }
            };
            self.bind_text(draft, name, text, &path);
        }
    }

    fn bind_text(&mut self, draft: &mut Draft<'a>, name: &str, text: &str, path: &FieldPath) {
        if let Ok(template) = Template::parse_here(text)
            && let Some(reference) = template.sole_expression().and_then(Expression::as_reference)
            && self.check_place(reference, path, draft.place()).is_none()
        {
            match self.meaning(reference) {
                Ok(Meaning::InputTable) => {
                    let input = reference.path.first().cloned().unwrap_or_default();
                    let value = BindingValue::InputTable(input);
                    draft.bindings.push(PlannedBinding { name: name.to_owned(), value });
                    return;
                }
                Ok(meaning @ (Meaning::Table(..) | Meaning::Loaded(_) | Meaning::File(_))) => {
                    self.bind(draft, name, meaning);
                    return;
                }
                _ => {}
            }
        }
        let Some(template) = self.task_template(draft, text, path) else { return };
        let expression = match (template.sole_expression(), template.literal()) {
            (Some(expression), _) => expression.clone(),
            (None, Some(literal)) => Expression::constant(literal),
            (None, None) => {
                let message = "a value is one expression; join text within it";
                let meant = "`$(\"text \" + string(inputs.x))`";
                self.report(Problem::new(Rule::ExpressionSyntax, path.clone(), message).suggest(Some(meant)));
                return;
            }
        };
        let data_type = expression
            .as_reference()
            .filter(|reference| reference.scope == ScopeName::Inputs && reference.path.len() == 1);
        let data_type = data_type.and_then(|reference| self.input_type(&reference.path[0]));
        draft
            .bindings
            .push(PlannedBinding { name: name.to_owned(), value: BindingValue::Scalar { expression, data_type } });
    }

    /// JSON is CEL too.
    fn bind_constant(&mut self, draft: &mut Draft<'a>, name: &str, value: &Json, path: &FieldPath) {
        match Expression::parse_here(&value.to_string()) {
            Ok(expression) => {
                let value = BindingValue::Scalar { expression, data_type: None };
                draft.bindings.push(PlannedBinding { name: name.to_owned(), value });
            }
            Err(error) => {
                let message = format!("the value cannot be passed on: {}", error.message);
                self.problem(error.rule, path, message);
            }
        }
    }

    fn condition(&mut self, draft: &mut Draft<'a>) -> Option<Expression> {
        let text = draft.task.when.as_ref()?;
        let path = draft.path.field("when");
        let template = self.task_template(draft, text, &path)?;
        let Some(expression) = template.sole_expression() else {
            let message = "`when` is one expression that gives true or false";
            let bare = Expression::parse_here(text).is_ok();
            let meant = if bare { format!("`$({text})`") } else { "`$(tasks.detect.rows > 0)`".to_owned() };
            self.report(Problem::new(Rule::ExpressionType, path, message).suggest(Some(meant)));
            return None;
        };
        let problems_before = self.problems.len();
        let kind = self.kind(expression, text, &path, draft.place());
        if !matches!(kind, Kind::Bool | Kind::Any) && self.problems.len() == problems_before {
            let message = format!("`when` gives {}, and needs true or false", kind.describe());
            let meant = (kind == Kind::Int).then(|| format!("`$({} > 0)`", expression.source));
            self.report(Problem::new(Rule::ExpressionType, path, message).suggest(meant));
        }
        Some(expression.clone())
    }

    fn depends_on(&mut self, draft: &mut Draft<'a>) {
        for (position, name) in draft.task.depends_on.iter().enumerate() {
            let path = draft.path.field("dependsOn").index(position);
            if name == &draft.task.name {
                self.problem(Rule::SelfReference, &path, format!("task `{name}` cannot wait for itself"));
            } else if let Some(other) = self.tasks.get(name.as_str()) {
                draft.needs.entry(other.index).or_insert(NeedKind::Order);
            } else if self.inputs.contains_key(name.as_str()) {
                let message =
                    format!("`{name}` is an input, and `dependsOn` names tasks; inputs are there from the start");
                self.problem(Rule::UnknownName, &path, message);
            } else {
                let near = crate::problem::nearest(name, self.tasks.keys().copied()).map(quoted);
                let message = format!("there is no task `{}`", crate::problem::excerpt(name));
                self.report(Problem::new(Rule::UnknownName, path, message).suggest(near));
            }
        }
    }

    /// Names of `with` and the parameters that connections bring are names in the task's SQL too.
    fn check_names_of_task(&mut self, draft: &Draft<'a>) {
        for name in draft.task.with.keys() {
            if draft.task.reads.contains(name) || draft.task.writes.contains(name) {
                let message = format!("`{name}` is the name of a connection that the task uses");
                self.problem(Rule::DuplicateName, &draft.path.field("with").field(name), message);
            }
        }
    }

    /// No two attempts write one DuckDB file, and none reads it while another writes: DuckDB locks the whole file.
    fn locks(&self, draft: &Draft<'a>) -> Vec<Lock> {
        let mut locks: BTreeMap<String, LockMode> = BTreeMap::new();
        for (name, writes) in &draft.connections {
            if let Some(resource) = self.duckdb_resource(name) {
                let mode = locks.entry(resource).or_insert(LockMode::Shared);
                if *writes {
                    *mode = LockMode::Exclusive;
                }
            }
        }
        locks.into_iter().map(|(resource, mode)| Lock { resource, mode }).collect()
    }
}
