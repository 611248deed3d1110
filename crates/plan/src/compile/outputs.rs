use std::collections::{BTreeMap, BTreeSet};

use pintail_api as api;
use pintail_engine::TaskIndex;

use super::references::{Meaning, Place};
use super::{Compiler, names};
use crate::Rule;
use crate::expression::Expression;
use crate::model::{BindingValue, OutputValue, PlannedOutput, PlannedPublish, PlannedTask, PlannedWork, ResultKind};
use crate::problem::{FieldPath, Problem};

impl Compiler<'_> {
    pub(super) fn compile_outputs(&mut self, tasks: &mut [PlannedTask]) -> Vec<PlannedOutput> {
        let Some(outputs) = &self.workflow.spec.outputs else { return unused_results(tasks) };
        let root = FieldPath::root().field("spec").field("outputs");
        let mut planned: Vec<PlannedOutput> = Vec::new();
        for (position, output) in outputs.iter().enumerate() {
            let path = root.index(position);
            self.problems.extend(names::check(&output.name, "output", &path.field("name")));
            if outputs[..position].iter().any(|other| other.name == output.name) {
                let message = format!("`{}` is the name of an earlier output already", output.name);
                self.problem(Rule::DuplicateName, &path.field("name"), message);
            }
            let Some(value) = self.output_value(output, &path.field("value")) else { continue };
            let publish = output.publish.as_ref().map(|publish| {
                let at = planned.len();
                self.publish(publish, &value, at, tasks, &path.field("publish"))
            });
            if let Some(publish) = &publish {
                self.check_published_once(publish, &planned, &path.field("publish"));
            }
            self.check_promises(output, &value, &path);
            planned.push(PlannedOutput { name: output.name.clone(), value, publish });
        }
        planned
    }

    /// `releases` and `contract` stand where something leaves.
    fn check_promises(&mut self, output: &api::Output, value: &OutputValue, path: &FieldPath) {
        let is_published = output.publish.is_some();
        if !output.releases.is_empty() && !is_published && !matches!(value, OutputValue::Scalar(_)) {
            let message = "a table that is not published does not leave; `releases` belongs to `publish`, or to the \
                           export, load, report or message by which it leaves";
            self.problem(Rule::NothingUsesIt, &path.field("releases"), message);
        }
        if output.contract.is_some() && !is_published {
            let message = "`contract` is about those that read the dataset, and this output publishes none";
            self.problem(Rule::NothingUsesIt, &path.field("contract"), message);
        }
    }

    fn output_value(&mut self, output: &api::Output, path: &FieldPath) -> Option<OutputValue> {
        let parsed = crate::expression::Template::parse_here(&output.value).ok();
        if let Some(reference) =
            parsed.as_ref().and_then(|parsed| parsed.sole_expression()).and_then(Expression::as_reference)
        {
            match self.meaning(reference) {
                Ok(Meaning::Table(task, result)) => return Some(OutputValue::Result(task, result.to_owned())),
                Ok(Meaning::File(task)) => return Some(OutputValue::Result(task, "result".to_owned())),
                Ok(Meaning::Loaded(task)) => return Some(OutputValue::Loaded(task)),
                _ => {}
            }
        }
        let template = self.template(&output.value, path, Place::Output)?;
        if let Some(expression) = template.sole_expression() {
            return Some(OutputValue::Scalar(expression.clone()));
        }
        let message = "an output's value is one expression, `$(…)`";
        let named = self.tasks.contains_key(output.value.as_str()).then(|| format!("`$(tasks.{})`", output.value));
        let bare = Expression::parse_here(&output.value).is_ok().then(|| format!("`$({})`", output.value));
        self.report(Problem::new(Rule::InvalidOutput, path.clone(), message).suggest(named.or(bare)));
        None
    }

    fn publish(
        &mut self,
        publish: &api::Publish,
        value: &OutputValue,
        output: usize,
        tasks: &mut [PlannedTask],
        path: &FieldPath,
    ) -> PlannedPublish {
        self.problems.extend(names::check(&publish.artifact, "dataset", &path.field("artifact")));
        if let Some(text) = &publish.keep_for {
            self.duration(text, &path.field("keepFor"));
        }
        let mut partition = BTreeMap::new();
        for (name, text) in &publish.partition {
            let path = path.field("partition").field(name);
            self.problems.extend(names::check(name, "partition", &path));
            partition.extend(self.template_before_start(text, &path).map(|template| (name.clone(), template)));
        }
        match value {
            OutputValue::Result(task, name) => {
                let result = tasks
                    .get_mut(task.0 as usize)
                    .and_then(|task| task.results.iter_mut().find(|result| result.name == *name));
                match result {
                    Some(result) if result.kind != ResultKind::Table => {
                        self.problem(Rule::InvalidPublish, path, "only a table can be published, and this is a file");
                    }
                    Some(result) if result.published_by.is_some() => {
                        self.problem(
                            Rule::InvalidPublish,
                            path,
                            "this table is published by an earlier output already",
                        );
                    }
                    Some(result) => result.published_by = Some(output),
                    None => {}
                }
            }
            OutputValue::Loaded(_) => {
                let message = "a load's rows are in its database; publish the table of a task that reads them";
                self.problem(Rule::InvalidPublish, path, message);
            }
            OutputValue::Scalar(_) => {
                self.problem(Rule::InvalidPublish, path, "only a table can be published, and this is a scalar");
            }
        }
        PlannedPublish {
            artifact: publish.artifact.clone(),
            partition,
            keep_for: publish.keep_for.clone(),
            reclaim_policy: publish.reclaim_policy,
        }
    }

    fn check_published_once(&mut self, publish: &PlannedPublish, earlier: &[PlannedOutput], path: &FieldPath) {
        let sources = |publish: &PlannedPublish| -> Vec<(String, String)> {
            publish.partition.iter().map(|(name, value)| (name.clone(), value.source.clone())).collect()
        };
        let same = earlier.iter().find(|other| {
            other
                .publish
                .as_ref()
                .is_some_and(|other| other.artifact == publish.artifact && sources(other) == sources(publish))
        });
        if let Some(other) = same {
            let message = format!("output `{}` publishes the same part of dataset `{}`", other.name, publish.artifact);
            self.problem(Rule::InvalidPublish, &path.field("artifact"), message);
        }
    }
}

/// The tables and files that no task uses, and the tables that were loaded and are not read again.
fn unused_results(tasks: &[PlannedTask]) -> Vec<PlannedOutput> {
    let mut used: BTreeSet<(TaskIndex, &str)> = BTreeSet::new();
    for value in tasks.iter().flat_map(|task| &task.bindings).map(|binding| &binding.value) {
        match value {
            BindingValue::TaskTable(task, result) => used.insert((*task, result)),
            BindingValue::LoadedTable { task, .. } | BindingValue::TaskFile(task) => used.insert((*task, "result")),
            BindingValue::InputTable(_) | BindingValue::Scalar { .. } => false,
        };
    }
    let mut outputs: Vec<PlannedOutput> = Vec::new();
    let mut add = |name: String, value| {
        let taken = |name: &str| outputs.iter().any(|output| output.name == name);
        let name =
            if taken(&name) { (2..).map(|n| format!("{name}_{n}")).find(|name| !taken(name)) } else { Some(name) };
        outputs.extend(name.map(|name| PlannedOutput { name, value, publish: None }));
    };
    for (index, task) in (0..).map(TaskIndex).zip(tasks) {
        if matches!(task.work, PlannedWork::DuckDb { load: Some(_), .. }) && !used.contains(&(index, "result")) {
            add(task.name.clone(), OutputValue::Loaded(index));
        }
        for result in task.results.iter().filter(|result| result.kind != ResultKind::Values) {
            if used.contains(&(index, result.name.as_str())) {
                continue;
            }
            let name =
                if result.name == "result" { task.name.clone() } else { format!("{}_{}", task.name, result.name) };
            add(name, OutputValue::Result(index, result.name.clone()));
        }
    }
    outputs
}
