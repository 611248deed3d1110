//! Contracts between workflows: what one publishes, and what others read of it.

use std::collections::{BTreeMap, BTreeSet};

use pintail_api as api;
use pintail_plan::{FieldPath, InputKind, OutputValue, Plan, Problem, Rule};
use pintail_protocol::{CheckedResult, ResultColumn, ResultLineage, SourceTable, TableShape, widens};

use crate::check::{Datasets, dataset_of};

/// Who publishes a dataset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publisher {
    pub workflow: String,
    pub output: String,
    /// Whether the output says that its columns may change under its readers.
    pub breaks: bool,
    /// `None` where the columns cannot be known.
    pub shape: Option<TableShape>,
}

/// By dataset.
pub type Publishers = BTreeMap<String, Publisher>;

/// The datasets that a workflow publishes.
#[must_use]
pub fn publishers(workflow: &api::Workflow, plan: &Plan, results: &[CheckedResult]) -> Publishers {
    let mut publishers = Publishers::new();
    for output in &plan.outputs {
        let (Some(publish), OutputValue::Result(task, result)) = (&output.publish, &output.value) else { continue };
        let Some(task) = plan.tasks.get(task.0 as usize) else { continue };
        let spec = workflow.spec.outputs.iter().flatten().find(|spec| spec.name == output.name);
        let found = results.iter().find(|it| it.task == task.name && it.output == *result);
        let publisher = Publisher {
            workflow: plan.workflow.clone(),
            output: output.name.clone(),
            breaks: spec.and_then(|spec| spec.contract) == Some(api::OutputContract::Break),
            shape: found.and_then(|found| found.shape.clone()),
        };
        publishers.insert(publish.artifact.clone(), publisher);
    }
    publishers
}

/// Where a dataset that another workflow publishes lacks what an input's contract needs, or has it in a type that the
/// contract's does not hold; but for those whose publisher says `contract: Break`.
#[must_use]
pub fn broken_readers(
    workflow: &api::Workflow,
    plan: &Plan,
    datasets: &Datasets,
    publishers: &Publishers,
) -> Vec<Problem> {
    let mut problems = Vec::new();
    for input in &plan.inputs {
        let InputKind::Table { contract: Some(contract) } = &input.kind else { continue };
        let Some((name, shape)) = dataset_of(input).and_then(|name| Some((name, datasets.get(name)?))) else {
            continue;
        };
        let publisher = publishers.get(name);
        if publisher.is_some_and(|publisher| publisher.breaks) {
            continue;
        }
        let by = publisher.map(|it| format!(", which workflow `{}` publishes,", it.workflow)).unwrap_or_default();
        let position = workflow.spec.inputs.iter().position(|it| it.name == input.name).unwrap_or_default();
        let path = FieldPath::root().field("spec").field("inputs").index(position).field("columns");
        for (index, column) in contract.columns.iter().enumerate() {
            let reads = || format!("input `{}` of workflow `{}` reads `{}`", input.name, plan.workflow, column.name);
            let (field, message) = match unfit(column, shape) {
                None => continue,
                Some(Unfit::Missing) => {
                    let given: Vec<&str> = shape.columns.iter().map(|column| column.name.as_str()).collect();
                    let given = given.join(", ");
                    ("name", format!("{}, and dataset `{name}`{by} has no such column; it has {given}", reads()))
                }
                Some(Unfit::OtherType(found)) => {
                    let types = format!("{found} there and {} here", column.data_type);
                    ("type", format!("{} of dataset `{name}`{by} and it is {types}", reads()))
                }
            };
            problems.push(Problem::new(Rule::BrokenContract, path.index(index).field(field), message));
        }
    }
    problems
}

/// Why a column of a contract is not served.
enum Unfit<'a> {
    Missing,
    OtherType(&'a str),
}

fn unfit<'a>(wanted: &api::Column, shape: &'a TableShape) -> Option<Unfit<'a>> {
    if wanted.source.is_some() {
        return None;
    }
    match find(shape, &wanted.name) {
        None if shape.open => None,
        None => Some(Unfit::Missing),
        Some(found) if fits(&found.data_type, &wanted.data_type) => None,
        Some(found) => Some(Unfit::OtherType(&found.data_type)),
    }
}

/// The columns of a version of a dataset; `None` where they were not recorded.
#[must_use]
pub fn version_shape(artifact: &api::ArtifactSpec) -> Option<TableShape> {
    let column = |column: &api::Column| ResultColumn { name: column.name.clone(), data_type: column.data_type.clone() };
    let columns: Vec<ResultColumn> = artifact.columns.iter().map(column).collect();
    (!columns.is_empty()).then_some(TableShape { columns, open: false })
}

/// How a version of a dataset breaks the contract of whom it would be given to.
#[must_use]
pub fn breaks_contract(artifact: &api::ArtifactSpec, contract: &pintail_plan::Contract) -> Option<String> {
    let shape = version_shape(artifact)?;
    contract.columns.iter().find_map(|column| match unfit(column, &shape)? {
        Unfit::Missing => Some(format!("it has no column `{}`", column.name)),
        Unfit::OtherType(found) => {
            Some(format!("its column `{}` is {found}, and {} is declared", column.name, column.data_type))
        }
    })
}

/// What an input reads of a dataset where a run says nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reader {
    pub workflow: String,
    pub input: String,
    pub dataset: String,
    /// In small letters. A column that is only counted on by a contract is read too: without it the input is refused.
    pub columns: BTreeSet<String>,
    /// Whether it may read any other column as well.
    pub any: bool,
}

/// What a workflow reads of datasets. `lineage` is that of [`crate::lineage::trace`].
#[must_use]
pub fn readers(plan: &Plan, lineage: &[ResultLineage]) -> Vec<Reader> {
    let reader = |input: &pintail_plan::PlannedInput| {
        let InputKind::Table { contract } = &input.kind else { return None };
        let contract = contract.iter().flat_map(|contract| &contract.columns);
        let declared = contract.filter(|column| column.source.is_none()).map(|column| column.name.to_lowercase());
        let all = lineage.iter().flat_map(|it| it.columns.iter().map(|column| &column.sources).chain([&it.rows]));
        let mut used = all.flat_map(pintail_protocol::Sources::iter);
        let mut columns: BTreeSet<String> = declared.collect();
        let of_input = used.by_ref().filter(|it| it.table == SourceTable::Input(input.name.clone()));
        columns.extend(of_input.map(|source| source.column.to_lowercase()));
        let any = columns.remove("*");
        Some(Reader {
            workflow: plan.workflow.clone(),
            input: input.name.clone(),
            dataset: dataset_of(input)?.to_owned(),
            columns,
            any,
        })
    };
    plan.inputs.iter().filter_map(reader).collect()
}

/// A dataset whose columns are others now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatasetChange {
    pub dataset: String,
    /// Who publishes it now; `None` where its workflow does not any more.
    pub publisher: Option<Publisher>,
    pub columns: Vec<ColumnChange>,
    /// Whether the columns before or now cannot be known, so that they are not compared.
    pub is_unknown: bool,
    /// Whom it breaks that nothing is published any more.
    pub broken: Vec<Reader>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnChange {
    pub name: String,
    pub before: Option<String>,
    pub now: Option<String>,
    /// Those that read it and are not served by what it is now.
    pub broken: Vec<Reader>,
}

impl DatasetChange {
    /// Whether a reader breaks that was not told of it.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        let breaks = !self.broken.is_empty() || self.columns.iter().any(|column| !column.broken.is_empty());
        breaks && !self.publisher.as_ref().is_some_and(|publisher| publisher.breaks)
    }
}

/// What became of the datasets of before; `readers` are all that read them. A dataset that is as it was is left out, and
/// so is one whose workflow is not there now.
#[must_use]
pub fn dataset_changes(
    before: &Publishers,
    now: &Publishers,
    workflows_now: &BTreeSet<String>,
    readers: &[Reader],
) -> Vec<DatasetChange> {
    let mut changes = Vec::new();
    for (dataset, old) in before {
        let of_dataset: Vec<&Reader> = readers.iter().filter(|reader| reader.dataset == *dataset).collect();
        let Some(new) = now.get(dataset) else {
            if workflows_now.contains(&old.workflow) {
                changes.push(DatasetChange {
                    dataset: dataset.clone(),
                    publisher: None,
                    columns: Vec::new(),
                    is_unknown: false,
                    broken: of_dataset.into_iter().filter(|it| workflows_now.contains(&it.workflow)).cloned().collect(),
                });
            }
            continue;
        };
        let known = old.shape.as_ref().zip(new.shape.as_ref());
        let columns = known.map(|(old, new)| column_changes(old, new, &of_dataset)).unwrap_or_default();
        if !columns.is_empty() || known.is_none() {
            changes.push(DatasetChange {
                dataset: dataset.clone(),
                publisher: Some(new.clone()),
                columns,
                is_unknown: known.is_none(),
                broken: Vec::new(),
            });
        }
    }
    changes
}

fn column_changes(old: &TableShape, new: &TableShape, readers: &[&Reader]) -> Vec<ColumnChange> {
    let mut changes = Vec::new();
    for column in &old.columns {
        let now = find(new, &column.name).map(|column| column.data_type.clone());
        if now.as_ref() == Some(&column.data_type) || (now.is_none() && new.open) {
            continue;
        }
        let is_served = now.as_ref().is_some_and(|now| fits(now, &column.data_type));
        let lower = column.name.to_lowercase();
        let breaks = |reader: &&&Reader| !is_served && (reader.any || reader.columns.contains(&lower));
        changes.push(ColumnChange {
            name: column.name.clone(),
            before: Some(column.data_type.clone()),
            broken: readers.iter().filter(breaks).map(|reader| (*reader).clone()).collect(),
            now,
        });
    }
    let added = new.columns.iter().filter(|column| find(old, &column.name).is_none());
    changes.extend(added.map(|column| ColumnChange {
        name: column.name.clone(),
        before: None,
        now: Some(column.data_type.clone()),
        broken: Vec::new(),
    }));
    changes
}

fn find<'a>(shape: &'a TableShape, name: &str) -> Option<&'a ResultColumn> {
    shape.columns.iter().find(|column| column.name.eq_ignore_ascii_case(name))
}

/// Whether a column of one type serves who wants another.
fn fits(found: &str, wanted: &str) -> bool {
    found == wanted || widens(found, wanted)
}
