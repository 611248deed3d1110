//! What is wrong with the SQL of manifests: each workflow is checked by DuckDB, publishers of datasets before readers.

use std::path::PathBuf;

use kube::ResourceExt;
use pintail_api as api;
use pintail_execution::{Datasets, Publishers, check_request, dataset_of, judge, published};
use pintail_plan::manifest::Document;
use pintail_plan::{FieldPath, Located, Plan, Problem, Rule, check_expected_rows};
use pintail_protocol::{CheckRequest, CheckedResult, ResultLineage};
use pintail_task_runner::check::Checker;

use crate::diagnostics;
use crate::failure::{Code, CommandFailure};
use crate::manifests::{Manifests, SqlText};

/// Names the functions that mask sensitive columns, where they are others than `md5` and `sha256`.
const MASKING_VARIABLE: &str = "PINTAIL_MASKING_FUNCTIONS";

/// What was found of the SQL.
#[derive(Default)]
pub struct Checked<'a> {
    pub problems: Vec<Located>,
    /// Those without other problems, publishers of datasets before readers.
    pub workflows: Vec<CheckedWorkflow<'a>>,
}

/// A workflow whose SQL was checked.
pub struct CheckedWorkflow<'a> {
    pub workflow: &'a api::Workflow,
    pub plan: Plan,
    /// What each task sees.
    pub request: CheckRequest,
    /// The columns of every result.
    pub results: Vec<CheckedResult>,
    /// Where they come from in the end.
    pub lineage: Vec<ResultLineage>,
}

/// All that is wrong, by file and place, and what was found of the SQL.
///
/// # Errors
/// As [`check_sql`].
pub fn check(manifests: &Manifests) -> Result<(Vec<Located>, Checked<'_>), CommandFailure> {
    let mut problems = manifests.problems();
    let mut checked = check_sql(manifests)?;
    problems.append(&mut checked.problems);
    problems.sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
    Ok((problems, checked))
}

/// Checks the SQL of every workflow that has no other problem.
///
/// # Errors
/// DuckDB cannot start, or fails by a fault of its own.
pub fn check_sql(manifests: &Manifests) -> Result<Checked<'_>, CommandFailure> {
    check_sql_against(manifests, &Datasets::new())
}

/// As [`check_sql`], where some datasets have these columns, whatever is published now.
///
/// # Errors
/// As [`check_sql`].
pub fn check_sql_against<'a>(manifests: &'a Manifests, pinned: &Datasets) -> Result<Checked<'a>, CommandFailure> {
    let mut waiting = manifests.plans();
    if waiting.is_empty() {
        return Ok(Checked::default());
    }
    let failed = |failure: pintail_task_runner::failure::TaskFailure| {
        CommandFailure::failed(format!("the SQL cannot be checked: {failure}"))
    };
    let mut checker = Checker::new().map_err(failed)?;
    let (mut datasets, mut known_publishers) = (pinned.clone(), Publishers::new());
    let mut checked = Checked::default();
    while !waiting.is_empty() {
        // Of workflows that read each other's datasets in a circle, any may be the first.
        let next = waiting.iter().position(|(_, _, plan)| !waits(plan, &waiting)).unwrap_or(0);
        let (document, workflow, plan) = waiting.remove(next);
        let mut request = check_request(&plan, manifests.connections(), &datasets);
        if let Some(masking) = masking_functions() {
            request.masking = masking;
        }
        let response = checker
            .check(&request)
            .map_err(|failure| failed(failure.on(&format!("workflow {}", workflow.name_any()))))?;
        let judgement = judge(workflow, &plan, manifests.connections(), (&datasets, &known_publishers), &response);
        datasets.extend(published(&plan, &response));
        datasets.extend(pinned.clone());
        known_publishers.extend(judgement.publishers);
        let (results, lineage) = (response.results, judgement.lineage);
        checked.workflows.push(CheckedWorkflow { workflow, plan, request, results, lineage });
        let problems = [judgement.problems, judgement.broken, judgement.notes].into_iter().flatten();
        let (elsewhere, here): (Vec<Problem>, Vec<Problem>) =
            problems.partition(|problem| sql_text(manifests, workflow, problem).is_some());
        checked.problems.extend(document.locate_all(here));
        checked.problems.extend(elsewhere.into_iter().filter_map(|problem| {
            let (text, key) = sql_text(manifests, workflow, &problem)?;
            Some(located_in(text, &key, problem))
        }));
    }
    for (document, test) in manifests.tests() {
        let Ok(test) = test else { continue };
        let columns = |task: &str, output: &str| columns(&checked.workflows, &test.plan.workflow, task, output);
        let problems = check_expected_rows(&test, &columns);
        checked.problems.extend(document.locate_all(problems));
    }
    Ok(checked)
}

/// Manifests whose workflows may run: as [`Manifests::read_right`], and no sensitive column gets out. Most manifests have
/// none, and their SQL is not checked for it.
///
/// # Errors
/// As [`Manifests::read_right`] and [`check_sql`]; and where a sensitive column would leave, which is printed on standard error.
pub fn read_runnable(paths: &[PathBuf]) -> Result<Manifests, CommandFailure> {
    let manifests = Manifests::read_right(paths)?;
    if !manifests.has_sensitive_columns() {
        return Ok(manifests);
    }
    let mut leaks = check_sql(&manifests)?.problems;
    leaks.retain(|located| located.problem.rule == Rule::SensitiveColumn);
    if leaks.is_empty() {
        return Ok(manifests);
    }
    eprint!("{}", diagnostics::as_text(&leaks, manifests.sources()));
    Err(CommandFailure::shown(Code::Failed))
}

fn masking_functions() -> Option<Vec<String>> {
    let names = std::env::var(MASKING_VARIABLE).ok()?;
    Some(names.split(',').map(|name| name.trim().to_lowercase()).filter(|name| !name.is_empty()).collect())
}

/// Names and types of the columns of a result, where all of them are known.
fn columns(checked: &[CheckedWorkflow<'_>], workflow: &str, task: &str, output: &str) -> Option<Vec<(String, String)>> {
    let results = &checked.iter().find(|checked| checked.plan.workflow == workflow)?.results;
    let result = results.iter().find(|result| result.task == task && result.output == output)?;
    let shape = result.shape.as_ref().filter(|shape| !shape.open)?;
    Some(shape.columns.iter().map(|column| (column.name.clone(), column.data_type.clone())).collect())
}

type Waiting<'a> = (&'a Document, &'a api::Workflow, Plan);

/// Whether a dataset that a plan reads is published by another that is not checked yet.
fn waits(plan: &Plan, waiting: &[Waiting<'_>]) -> bool {
    let publishes = |other: &Plan, name: &str| {
        other.outputs.iter().filter_map(|output| output.publish.as_ref()).any(|publish| publish.artifact == name)
    };
    plan.inputs
        .iter()
        .filter_map(dataset_of)
        .any(|name| waiting.iter().any(|(_, _, other)| other.workflow != plan.workflow && publishes(other, name)))
}

/// The text in another file or object that a problem is about, and its key there.
fn sql_text<'a>(
    manifests: &'a Manifests,
    workflow: &api::Workflow,
    problem: &Problem,
) -> Option<(&'a SqlText, String)> {
    use pintail_plan::Segment::{Field, Index};
    let [Field(_), Field(_), Index(task), Field(_), Field(from), ..] = problem.path.segments() else { return None };
    if from != "queryFrom" {
        return None;
    }
    let from = workflow.spec.tasks.get(*task)?.duckdb.as_ref()?.query_from.as_ref()?;
    let reference = &from.config_map_key_ref;
    let text = manifests.sql_texts().get(&(reference.name.clone(), reference.key.clone()))?;
    Some((text, reference.key.clone()))
}

fn located_in(text: &SqlText, key: &str, problem: Problem) -> Located {
    match text {
        SqlText::File { name, text } => {
            let before = problem.offset.and_then(|offset| text.get(..offset)).unwrap_or_default();
            let line_start = before.rfind('\n').map_or(0, |at| at + 1);
            let (line, column) = (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1);
            Located { file: name.clone(), line, column, problem }
        }
        SqlText::Object(document) => {
            let at = Problem { path: FieldPath::root().field("data").field(key), ..problem.clone() };
            Located { problem, ..document.locate(at) }
        }
    }
}
