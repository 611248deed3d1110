//! LaunchPlan to [`PlannedLaunch`]: schedules, datasets, patterns, expressions over what started a run.
//!
//! ```text
//! LaunchPlan ─ compile_launch_plan (alone) ─> PlannedLaunch ─ check_launch_plan (against Workflow, Connections)
//!                                                   │
//!                       occurrence, as a Scope ─ inputs_of ─> Execution.spec.inputs
//! ```

mod around;
mod inputs;
mod references;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use pintail_api as api;
use pintail_engine::{CatchUp, Schedule, ScheduleError, WhenFull};
use serde_json::Value as Json;
use sha2::{Digest, Sha256};

pub use around::{LaunchSurroundings, check_launch_plan, is_started_by, trigger_cycle};
pub use inputs::inputs_of;

use crate::Rule;
use crate::compile::names;
use crate::expression::{Expression, Kind, Template, infer, on_large_stack};
use crate::problem::{FieldPath, Problem, nearest};

/// Looking at a bucket more often costs more than it tells.
const EVERY_MIN: Duration = Duration::from_secs(1);
const EVERY: Duration = Duration::from_secs(30);
const QUEUE_LIMIT: u32 = 100;
const KEEP_SUCCEEDED: usize = 10;
const KEEP_FAILED: usize = 20;
/// Where a plan does not say how long, or is gone.
pub const REFUSE_AGAIN_FOR: Duration = Duration::from_secs(90 * 24 * 60 * 60);

/// A LaunchPlan that is right as far as it stands alone.
#[derive(Clone, Debug)]
pub struct PlannedLaunch {
    pub name: String,
    pub workflow: String,
    pub suspended: bool,
    /// Whatever starts the run.
    pub inputs: BTreeMap<String, api::Binding>,
    pub triggers: Vec<PlannedTrigger>,
    pub concurrency: Option<PlannedConcurrency>,
    pub notifications: Vec<api::PlanNotification>,
    pub history: PlannedHistory,
}

#[derive(Clone, Debug)]
pub struct PlannedTrigger {
    pub name: String,
    /// Digest of what it waits for.
    pub definition: String,
    pub on: TriggerOn,
    pub inputs: BTreeMap<String, TriggerValue>,
}

#[allow(clippy::large_enum_variant, reason = "a plan has a few of them")]
#[derive(Clone, Debug)]
pub enum TriggerOn {
    Schedule { schedule: Schedule, cron: String, time_zone: String, catch_up: CatchUp },
    Artifacts { datasets: Vec<PlannedDataset>, match_on: Vec<String> },
    Object { connection: String, path: String, every: Duration, from_beginning: bool },
    Event { event_type: String, source: Option<String>, connection: String },
}

#[derive(Clone, Debug)]
pub struct PlannedDataset {
    pub name: String,
    /// Over `artifact`; gives true or false.
    pub condition: Option<Expression>,
}

/// What an input is bound to when a trigger fires: JSON whose texts may hold expressions.
#[derive(Clone, Debug)]
pub enum TriggerValue {
    Literal(Json),
    Text(Template),
    List(Vec<TriggerValue>),
    Fields(BTreeMap<String, TriggerValue>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlannedConcurrency {
    pub limit: u32,
    pub when_full: WhenFull,
    pub queue_limit: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlannedHistory {
    pub keep_succeeded: usize,
    pub keep_failed: usize,
    pub keep_for: Option<Duration>,
    pub refuse_again_for: Duration,
}

/// The plan, where nothing is wrong with it alone.
///
/// # Errors
/// Every problem, with the path of its field.
pub fn compile_launch_plan(plan: &api::LaunchPlan) -> Result<PlannedLaunch, Vec<Problem>> {
    on_large_stack(|| {
        let mut compiler = Compiler { problems: Vec::new() };
        let planned = compiler.plan(plan);
        if compiler.problems.is_empty() { Ok(planned) } else { Err(compiler.problems) }
    })
    .unwrap_or_else(|message| Err(vec![Problem::new(Rule::PlanLimit, FieldPath::root().field("spec"), message)]))
}

struct Compiler {
    problems: Vec<Problem>,
}

impl Compiler {
    fn problem(&mut self, rule: Rule, path: &FieldPath, message: impl Into<String>) {
        self.problems.push(Problem::new(rule, path.clone(), message));
    }

    fn plan(&mut self, plan: &api::LaunchPlan) -> PlannedLaunch {
        let spec = &plan.spec;
        let path = FieldPath::root().field("spec");
        let triggers = self.triggers(&spec.triggers, &path.field("triggers"));
        for (name, binding) in &spec.inputs {
            self.fixed(&binding.0, &path.field("inputs").field(name));
        }
        self.notifications(&spec.notifications, &path.field("notifications"));
        PlannedLaunch {
            name: plan.metadata.name.clone().unwrap_or_default(),
            workflow: spec.workflow_ref.name.clone(),
            suspended: spec.suspend == Some(true),
            inputs: spec.inputs.clone(),
            triggers,
            concurrency: spec.concurrency.as_ref().map(concurrency),
            notifications: spec.notifications.clone(),
            history: self.history(spec.history.as_ref(), &path.field("history")),
        }
    }

    /// Inputs of the whole plan are fixed: nothing has happened yet that they could depend on.
    fn fixed(&mut self, value: &Json, path: &FieldPath) {
        match value {
            Json::String(text) if text.contains("$(") && !text.contains("$$(") => {
                let message = "the inputs of a plan are fixed; what depends on what started the run belongs to the \
                               `inputs` of its trigger";
                self.problem(Rule::ScopeNotAllowed, path, message);
            }
            Json::Array(values) => {
                values.iter().enumerate().for_each(|(index, value)| self.fixed(value, &path.index(index)));
            }
            Json::Object(fields) => fields.iter().for_each(|(name, value)| self.fixed(value, &path.field(name))),
            _ => {}
        }
    }

    fn triggers(&mut self, triggers: &[api::Trigger], path: &FieldPath) -> Vec<PlannedTrigger> {
        let mut planned = Vec::new();
        for (index, trigger) in triggers.iter().enumerate() {
            let path = path.index(index);
            if triggers.iter().take(index).any(|other| other.name == trigger.name) {
                let message = format!("there are two triggers `{}`; a trigger is known by its name", trigger.name);
                self.problem(Rule::DuplicateName, &path.field("name"), message);
            }
            self.problems.extend(names::check_plain(&trigger.name, "trigger", &path.field("name")));
            let Some(on) = self.on(trigger, &path) else { continue };
            let inputs = trigger.inputs.iter().filter_map(|(name, binding)| {
                Some((name.clone(), self.trigger_value(&binding.0, &on, &path.field("inputs").field(name))?))
            });
            let inputs = inputs.collect();
            planned.push(PlannedTrigger { name: trigger.name.clone(), definition: definition(trigger), on, inputs });
        }
        planned
    }

    fn on(&mut self, trigger: &api::Trigger, path: &FieldPath) -> Option<TriggerOn> {
        if let Some(schedule) = &trigger.schedule {
            return self.schedule(schedule, &path.field("schedule"));
        }
        if let Some(artifacts) = &trigger.artifacts {
            return self.artifacts(artifacts, trigger, path);
        }
        if let Some(object) = &trigger.object {
            return self.object(object, &path.field("object"));
        }
        // Which of the four stands there is a rule of the structure.
        let event = trigger.event.as_ref()?;
        self.problems.extend(names::check(&event.connection, "connection", &path.field("event").field("connection")));
        Some(TriggerOn::Event {
            event_type: event.event_type.clone(),
            source: event.source.clone(),
            connection: event.connection.clone(),
        })
    }

    fn schedule(&mut self, given: &api::ScheduleTrigger, path: &FieldPath) -> Option<TriggerOn> {
        let time_zone = given.time_zone.clone().unwrap_or_else(|| "UTC".to_owned());
        match Schedule::parse(&given.cron, &time_zone) {
            Ok(schedule) => Some(TriggerOn::Schedule {
                schedule,
                cron: given.cron.clone(),
                time_zone,
                catch_up: match given.catch_up.unwrap_or_default() {
                    api::CatchUp::None => CatchUp::None,
                    api::CatchUp::Latest => CatchUp::Latest,
                    api::CatchUp::All => CatchUp::All,
                },
            }),
            Err(error) => {
                let field = if matches!(error, ScheduleError::TimeZone { .. }) { "timeZone" } else { "cron" };
                self.problem(Rule::InvalidSchedule, &path.field(field), error.to_string());
                None
            }
        }
    }

    fn artifacts(
        &mut self,
        given: &[api::ArtifactTrigger],
        trigger: &api::Trigger,
        path: &FieldPath,
    ) -> Option<TriggerOn> {
        let artifacts = path.field("artifacts");
        let mut datasets: Vec<PlannedDataset> = Vec::new();
        for (index, dataset) in given.iter().enumerate() {
            let path = artifacts.index(index);
            self.problems.extend(names::check(&dataset.name, "dataset", &path.field("name")));
            if datasets.iter().any(|other| other.name == dataset.name) {
                let message = format!("dataset `{}` stands twice", dataset.name);
                self.problem(Rule::DuplicateName, &path.field("name"), message);
            }
            let condition = dataset.condition.as_deref().and_then(|text| self.condition(text, &path.field("where")));
            datasets.push(PlannedDataset { name: dataset.name.clone(), condition });
        }
        if datasets.len() < 2 && !trigger.match_on.is_empty() {
            let message = "`matchOn` is for several datasets: it says which of their versions belong together";
            self.problem(Rule::NothingUsesIt, &path.field("matchOn"), message);
        }
        Some(TriggerOn::Artifacts { datasets, match_on: trigger.match_on.clone() })
    }

    fn condition(&mut self, text: &str, path: &FieldPath) -> Option<Expression> {
        let template = self.template(text, path)?;
        let Some(expression) = template.sole_expression() else {
            let meant = format!("`$({text})`");
            let message = "`where` is one expression that gives true or false";
            self.problems.push(Problem::new(Rule::ExpressionType, path.clone(), message).suggest(Some(meant)));
            return None;
        };
        let before = self.problems.len();
        for reference in expression.references() {
            let found = references::artifact_problem(reference, path);
            self.problems.extend(found.map(|problem| problem.at(crate::expression::find(text, reference))));
        }
        let types = |_, path: &[&str]| references::artifact_kind(path);
        match infer(expression, &types) {
            Ok(Kind::Bool | Kind::Any) => {}
            Ok(kind) => {
                let message = format!("`where` needs true or false, not {}", kind.describe());
                self.problem(Rule::ExpressionType, path, message);
            }
            Err(message) => self.problem(Rule::ExpressionType, path, message),
        }
        (self.problems.len() == before).then(|| expression.clone())
    }

    fn object(&mut self, given: &api::ObjectTrigger, path: &FieldPath) -> Option<TriggerOn> {
        self.problems.extend(names::check(&given.connection, "connection", &path.field("connection")));
        if given.path.starts_with('/') || given.path.split('/').any(|part| part == "..") {
            let message = "the path counts from the connection's root: it neither begins with `/` nor holds `..`";
            self.problem(Rule::InvalidPath, &path.field("path"), message);
        }
        if given.path.contains("$(") {
            let message = "what is watched must be known before anything happens: the path takes no expressions";
            self.problem(Rule::ScopeNotAllowed, &path.field("path"), message);
        }
        let every = self.duration(given.every.as_deref(), &path.field("every")).unwrap_or(EVERY);
        if every < EVERY_MIN {
            self.problem(Rule::InvalidDuration, &path.field("every"), "at most once a second: `1s`");
        }
        Some(TriggerOn::Object {
            connection: given.connection.clone(),
            path: given.path.clone(),
            every,
            from_beginning: given.start == Some(api::ObjectStart::Beginning),
        })
    }

    fn duration(&mut self, text: Option<&str>, path: &FieldPath) -> Option<Duration> {
        match crate::quantity::duration(text?) {
            Ok(duration) => Some(duration),
            Err(message) => {
                self.problem(Rule::InvalidDuration, path, message);
                None
            }
        }
    }

    fn notifications(&mut self, given: &[api::PlanNotification], path: &FieldPath) {
        for (index, notification) in given.iter().enumerate() {
            let path = path.index(index).field("connection");
            self.problems.extend(names::check(&notification.connection, "connection", &path));
        }
    }

    fn history(&mut self, given: Option<&api::History>, path: &FieldPath) -> PlannedHistory {
        let count =
            |given: Option<i32>, default| given.and_then(|count| usize::try_from(count).ok()).unwrap_or(default);
        let given = given.cloned().unwrap_or_default();
        PlannedHistory {
            keep_succeeded: count(given.keep_succeeded, KEEP_SUCCEEDED),
            keep_failed: count(given.keep_failed, KEEP_FAILED),
            keep_for: self.duration(given.keep_for.as_deref(), &path.field("keepFor")),
            refuse_again_for: self
                .duration(given.refuse_again_for.as_deref(), &path.field("refuseAgainFor"))
                .unwrap_or(REFUSE_AGAIN_FOR),
        }
    }

    fn template(&mut self, text: &str, path: &FieldPath) -> Option<Template> {
        match Template::parse_here(text) {
            Ok(template) => Some(template),
            Err(errors) => {
                self.problems.extend(errors.into_iter().map(|error| {
                    Problem::new(error.rule, path.clone(), error.message).at(error.offset).suggest(error.suggestion)
                }));
                None
            }
        }
    }

    fn trigger_value(&mut self, value: &Json, on: &TriggerOn, path: &FieldPath) -> Option<TriggerValue> {
        Some(match value {
            Json::String(text) if text.contains("$(") => {
                let template = self.template(text, path)?;
                let before = self.problems.len();
                let is_sole = template.sole_expression().is_some();
                for expression in template.expressions() {
                    let is_whole = is_sole && expression.as_reference().is_some();
                    for reference in expression.references() {
                        let found = references::trigger_problem(reference, on, is_whole, path);
                        self.problems.extend(found.map(|problem| problem.at(crate::expression::find(text, reference))));
                    }
                    let types = |_, path: &[&str]| references::trigger_kind(path);
                    if let Err(message) = infer(expression, &types) {
                        self.problem(Rule::ExpressionType, path, message);
                    }
                }
                return (self.problems.len() == before).then_some(TriggerValue::Text(template));
            }
            Json::Array(values) => {
                let values = values.iter().enumerate();
                let parts: Vec<_> =
                    values.map(|(index, value)| self.trigger_value(value, on, &path.index(index))).collect();
                TriggerValue::List(parts.into_iter().collect::<Option<_>>()?)
            }
            Json::Object(fields) => {
                let mut parts = BTreeMap::new();
                for (name, value) in fields {
                    parts.insert(name.clone(), self.trigger_value(value, on, &path.field(name))?);
                }
                TriggerValue::Fields(parts)
            }
            literal => TriggerValue::Literal(literal.clone()),
        })
    }
}

fn concurrency(given: &api::Concurrency) -> PlannedConcurrency {
    PlannedConcurrency {
        limit: u32::try_from(given.limit).unwrap_or(1).max(1),
        when_full: match given.when_full.unwrap_or_default() {
            api::WhenFull::Queue => WhenFull::Queue,
            api::WhenFull::Skip => WhenFull::Skip,
            api::WhenFull::Replace => WhenFull::Replace,
        },
        queue_limit: given.queue_limit.and_then(|limit| u32::try_from(limit).ok()).unwrap_or(QUEUE_LIMIT),
    }
}

/// What a trigger waits for: with another schedule, dataset, path or event it is another trigger. What it binds is no part.
fn definition(trigger: &api::Trigger) -> String {
    let waits_for = api::Trigger { inputs: BTreeMap::new(), ..trigger.clone() };
    let mut value = serde_json::to_value(waits_for).unwrap_or_default();
    value.sort_all_objects();
    let digest = Sha256::digest(value.to_string().as_bytes());
    digest.iter().take(10).map(|byte| format!("{byte:02x}")).collect()
}

/// ``did you mean `x`?`` of names.
fn near<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    nearest(name, known).map(|near| format!("`{near}`"))
}
