//! What the last good check knew of manifests. Text that is being written is wrong most of the time: what it was is a
//! good guess at what it will be.

use std::collections::BTreeMap;

use kube::ResourceExt;
use pintail_api as api;
use pintail_execution::MAIN_RESULT;
use pintail_plan::Located;
use pintail_plan::manifest::Document;
use pintail_protocol::{CheckRequest, CheckedResult, ParameterType, ResultColumn, TableOrigin};

use crate::check::CheckedWorkflow;
use crate::manifests::Manifests;

pub struct Knowledge {
    pub manifests: Manifests,
    /// All that is wrong.
    pub problems: Vec<Located>,
    /// By name.
    workflows: BTreeMap<String, Known>,
    /// By file; as they were where the file cannot be read at the moment.
    pub documents: BTreeMap<String, Vec<Document>>,
}

/// A workflow as it was checked.
#[derive(Clone)]
pub struct Known {
    request: CheckRequest,
    results: Vec<CheckedResult>,
}

/// What a task's SQL sees.
#[derive(Debug, Default)]
pub struct Scope {
    pub relations: Vec<Relation>,
    /// Name and type, where it is known.
    pub parameters: Vec<(String, String)>,
    pub databases: Vec<String>,
    /// What the task's own queries give.
    pub results: Vec<Relation>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relation {
    /// As SQL has it: `orders`, `lake.sales.orders`.
    pub name: String,
    /// `None` where they are not known.
    pub columns: Option<Vec<ResultColumn>>,
    pub origin: Origin,
}

/// Where a relation is declared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// An input or a task of the workflow.
    Name(String),
    /// A connection's table, by the position among its `tables`.
    Table(String, usize),
}

impl Known {
    pub fn of(checked: CheckedWorkflow<'_>) -> (String, Self) {
        (checked.workflow.name_any(), Self { request: checked.request, results: checked.results })
    }

    /// The columns of a result, where they are known.
    fn columns(&self, task: &str, output: &str) -> Option<Vec<ResultColumn>> {
        let result = self.results.iter().find(|result| result.task == task && result.output == output)?;
        Some(result.shape.as_ref()?.columns.clone())
    }

    fn relation(&self, name: &str, origin: &TableOrigin) -> Relation {
        let (columns, declared) = match origin {
            TableOrigin::Input(input) => {
                let input = self.request.inputs.iter().find(|it| it.name == *input);
                let shape = input.and_then(|input| input.shape.as_ref());
                (shape.map(|shape| shape.columns.clone()), input.map_or(name, |input| &input.name))
            }
            TableOrigin::Result { task, output } => (self.columns(task, output), task.as_str()),
            TableOrigin::Loaded { task } => (self.columns(task, MAIN_RESULT), task.as_str()),
        };
        Relation { name: name.to_owned(), columns, origin: Origin::Name(declared.to_owned()) }
    }

    fn type_of(&self, parameter: &ParameterType) -> String {
        match parameter {
            ParameterType::Known(name) => name.clone(),
            ParameterType::Column { task, output, column } => {
                let columns = self.columns(task, output).unwrap_or_default();
                columns.into_iter().find(|it| it.name == *column).map(|it| it.data_type).unwrap_or_default()
            }
            ParameterType::Unknown => String::new(),
        }
    }
}

impl Knowledge {
    /// What was found, and of `previous` what could not be found.
    pub fn new(
        manifests: Manifests,
        problems: Vec<Located>,
        checked: Vec<(String, Known)>,
        previous: Option<&Self>,
    ) -> Self {
        let mut documents: BTreeMap<String, Vec<Document>> = BTreeMap::new();
        for document in manifests.documents() {
            documents.entry(document.file.to_string()).or_default().push(document.clone());
        }
        let mut workflows: BTreeMap<String, Known> = checked.into_iter().collect();
        for (name, known) in previous.iter().flat_map(|previous| &previous.workflows) {
            let now = workflows.entry(name.clone()).or_insert_with(|| known.clone());
            for result in now.results.iter_mut().filter(|result| result.shape.is_none()) {
                let before = known.results.iter().find(|it| it.task == result.task && it.output == result.output);
                result.shape = before.and_then(|before| before.shape.clone());
            }
        }
        for (file, was) in previous.iter().flat_map(|previous| &previous.documents) {
            if manifests.sources().contains_key(file) {
                documents.entry(file.clone()).or_insert_with(|| was.clone());
            }
        }
        Self { manifests, problems, workflows, documents }
    }

    /// What the SQL of a task sees, as far as it was checked, and by the names that it uses now.
    pub fn scope(&self, workflow: &api::Workflow, task: &api::Task) -> Scope {
        let mut scope = Scope::default();
        let known = self.workflows.get(&workflow.name_any());
        let checked =
            known.and_then(|known| Some((known, known.request.tasks.iter().find(|it| it.name == task.name)?)));
        if let Some((known, checked)) = checked {
            scope.relations.extend(checked.tables.iter().map(|table| known.relation(&table.name, &table.origin)));
            let parameter = |it: &pintail_protocol::CheckParameter| (it.name.clone(), known.type_of(&it.data_type));
            scope.parameters.extend(checked.parameters.iter().map(parameter));
            let own = known.results.iter().filter(|result| result.task == task.name);
            scope.results.extend(own.filter_map(|result| self.used(workflow, &task.name, &result.output)));
        }
        for name in &task.uses {
            let is_known = scope.relations.iter().any(|it| it.name == *name)
                || scope.parameters.iter().any(|(parameter, _)| parameter == name);
            let scalar = workflow.spec.inputs.iter().find(|input| input.name == *name && input.data_type != "table");
            match scalar {
                _ if is_known => {}
                Some(input) => scope.parameters.push((name.clone(), input.data_type.clone())),
                None => scope.relations.extend(self.used(workflow, name, MAIN_RESULT)),
            }
        }
        for name in task.reads.iter().chain(&task.writes).filter(|name| self.is_database(name)) {
            scope.databases.push(name.clone());
            scope.relations.extend(self.tables(name));
        }
        scope
    }

    /// A table input of a workflow, or a result of a task.
    pub fn used(&self, workflow: &api::Workflow, name: &str, output: &str) -> Option<Relation> {
        let known = self.workflows.get(&workflow.name_any());
        let origin = if let Some(input) = workflow.spec.inputs.iter().find(|input| input.name == name) {
            let declared =
                |column: &api::Column| ResultColumn { name: column.name.clone(), data_type: column.data_type.clone() };
            let declared = input.columns.as_ref().map(|columns| columns.iter().map(declared).collect());
            let checked = known.map(|known| known.relation(name, &TableOrigin::Input(name.to_owned())));
            let columns = checked.and_then(|relation| relation.columns).or(declared);
            return Some(Relation { name: name.to_owned(), columns, origin: Origin::Name(name.to_owned()) });
        } else {
            workflow.spec.tasks.iter().find(|task| task.name == name)?;
            TableOrigin::Result { task: name.to_owned(), output: output.to_owned() }
        };
        let unknown = || Relation { name: name.to_owned(), columns: None, origin: Origin::Name(name.to_owned()) };
        Some(known.map_or_else(unknown, |known| known.relation(name, &origin)))
    }

    pub fn is_database(&self, name: &str) -> bool {
        let connection = self.manifests.connections().get(name);
        connection.is_some_and(|it| it.spec.duckdb.is_some() || it.spec.postgres.is_some())
    }

    fn tables(&self, database: &str) -> Vec<Relation> {
        let Some(connection) = self.manifests.connections().get(database) else { return Vec::new() };
        let column = |it: &api::TableColumn| ResultColumn { name: it.name.clone(), data_type: it.data_type.clone() };
        let table = |(position, table): (usize, &api::ConnectionTable)| Relation {
            name: format!("{database}.{}", table.name),
            columns: Some(table.columns.iter().map(column).collect()),
            origin: Origin::Table(database.to_owned(), position),
        };
        connection.spec.tables.iter().flatten().enumerate().map(table).collect()
    }
}
