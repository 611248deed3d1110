//! The LaunchPlans of manifests: alone, against their Workflows and Connections, and among each other.

use std::collections::BTreeSet;
use std::path::Path;

use kube::ResourceExt;
use pintail_api as api;
use pintail_plan::{
    FieldPath, LaunchSurroundings, Located, PlannedLaunch, Problem, Rule, check_launch_plan, compile_inputs,
    compile_launch_plan, is_started_by, nearest, trigger_cycle,
};

use super::{Manifests, absolute_uri, published};
use crate::failure::CommandFailure;
use crate::place::did_you_mean;

impl Manifests {
    /// All that is wrong with LaunchPlans.
    pub(super) fn launch_problems(&self) -> Vec<Located> {
        let compiled: Vec<_> = self.launch_plans.iter().map(|(_, plan)| compile_launch_plan(plan)).collect();
        let launches: Vec<&PlannedLaunch> = compiled.iter().filter_map(|compiled| compiled.as_ref().ok()).collect();
        let mut located = Vec::new();
        for ((position, _), compiled) in self.launch_plans.iter().zip(&compiled) {
            let problems = match compiled {
                Ok(launch) => self.problems_around(launch, &launches),
                Err(problems) => problems.clone(),
            };
            located.extend(self.documents.get(*position).map(|found| found.locate_all(problems)).unwrap_or_default());
        }
        located
    }

    fn problems_around(&self, launch: &PlannedLaunch, plans: &[&PlannedLaunch]) -> Vec<Problem> {
        let spec = FieldPath::root().field("spec");
        let workflow = self.workflows.iter().find(|(_, workflow)| workflow.name_any() == launch.workflow);
        let inputs = workflow.and_then(|(_, workflow)| compile_inputs(workflow).ok());
        let surroundings = LaunchSurroundings { connections: &self.connections, inputs: inputs.as_deref() };
        let mut problems = check_launch_plan(launch, &surroundings);
        if workflow.is_none() {
            let names: Vec<String> = self.workflows.iter().map(|(_, workflow)| workflow.name_any()).collect();
            let near = nearest(&launch.workflow, names.iter().map(String::as_str)).map(|near| format!("`{near}`"));
            let message = format!("there is no Workflow `{}` in these files", launch.workflow);
            let path = spec.field("workflowRef").field("name");
            problems.push(Problem::new(Rule::UnknownName, path, message).suggest(near));
        }
        let next = |workflow: &str| {
            let published = self.published_by(workflow);
            let started = plans.iter().filter(|plan| is_started_by(plan, &published));
            started.map(|plan| (plan.name.clone(), plan.workflow.clone())).collect()
        };
        if let Some(circle) = trigger_cycle(launch, next) {
            let message = format!("plans start each other in a circle: {}", circle.join(" -> "));
            problems.push(Problem::new(Rule::TriggerCycle, spec.field("triggers"), message));
        }
        problems
    }

    fn published_by(&self, workflow: &str) -> BTreeSet<String> {
        let found = self.workflows.iter().find(|(_, found)| found.name_any() == workflow);
        found.into_iter().flat_map(|(_, workflow)| published(workflow)).map(str::to_owned).collect()
    }

    /// Every LaunchPlan, as it is written and as it is understood.
    pub fn launches(&self) -> Result<Vec<(&api::LaunchPlan, PlannedLaunch)>, CommandFailure> {
        let understood = |plan| Ok((plan, understand(plan)?));
        self.launch_plans.iter().map(|(_, plan)| understood(plan)).collect()
    }

    /// The LaunchPlan of that name.
    pub fn launch(&self, name: &str) -> Result<(&api::LaunchPlan, PlannedLaunch), CommandFailure> {
        let found = self.launch_plans.iter().find(|(_, plan)| plan.name_any() == name);
        let Some((_, plan)) = found else {
            let names: Vec<String> = self.launch_plans.iter().map(|(_, plan)| plan.name_any()).collect();
            let there_are = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            let hint = did_you_mean(name, names);
            return Err(CommandFailure::usage(format!(
                "there is no LaunchPlan {name:?} in these files{hint}; there are: {there_are}"
            )));
        };
        Ok((plan, understand(plan)?))
    }
}

/// The plan as it is understood.
pub fn understand(plan: &api::LaunchPlan) -> Result<PlannedLaunch, CommandFailure> {
    compile_launch_plan(plan).map_err(|problems| {
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        CommandFailure::failed(format!("LaunchPlan {} has problems:\n{}", plan.name_any(), lines.join("\n")))
    })
}

/// Makes the files that a plan binds absolute, counted from `folder`.
pub(super) fn absolute_uris(spec: &mut api::LaunchPlanSpec, folder: &Path) {
    let triggers = spec.triggers.iter_mut().flat_map(|trigger| trigger.inputs.values_mut());
    spec.inputs.values_mut().chain(triggers).for_each(|binding| absolute_uri(binding, folder));
}
