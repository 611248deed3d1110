//! What is said of an object before the cluster takes it: refused for what is wrong in the object itself, warned of what is
//! wrong against others, since those may be applied after it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use pintail_api as api;
use pintail_execution::{Connections, Datasets, Publishers, broken_readers, dataset_of, judge, placed, published};
use pintail_plan::{
    ConfigMaps, LaunchSurroundings, Plan, Problem, Surroundings, check_connection, check_connection_on_cluster,
    check_launch_plan, check_workflow_on_cluster, compile_launch_plan,
};
use pintail_protocol::{CheckRequest, CheckResponse};
use serde_json::Value;
use tokio::time::timeout;

use super::checks::{self, datasets_read};
use super::object::decode;
use super::revision;
use super::unit::Unit;
use super::workflow::{self, connection_names, names_config_maps};
use crate::{Desk, Settings, SqlChecker};

/// For all that others are asked of: the API server waits for 5 seconds, and a person for the API server.
const PATIENCE: Duration = Duration::from_secs(3);
/// A person reads no more.
const WARNINGS: usize = 20;
/// API servers cut longer ones.
const WARNING_BYTES: usize = 250;
/// Workflows that are looked at for whether they read what is published; more would take too long.
const READERS: usize = 50;

/// What is said of an object.
#[derive(Debug, Default, PartialEq)]
pub struct Review {
    /// Why it is refused.
    pub problems: Vec<Problem>,
    pub warnings: Vec<String>,
}

impl Review {
    fn refused(problems: Vec<Problem>) -> Self {
        Self { problems, warnings: Vec::new() }
    }

    fn warn(&mut self, text: impl Into<String>) {
        let mut text = text.into().replace('\n', " ");
        text.truncate(text.floor_char_boundary(WARNING_BYTES));
        if self.warnings.len() < WARNINGS && !self.warnings.contains(&text) {
            self.warnings.push(text);
        }
    }

    fn warn_of(&mut self, problems: &[Problem]) {
        problems.iter().for_each(|problem| self.warn(problem.to_string()));
    }
}

/// Reviews objects, on every replica: one that stands by knows no other objects.
#[derive(Clone)]
pub struct Admission {
    pub desk: Desk,
    pub checker: Option<Arc<dyn SqlChecker>>,
    pub settings: Arc<Settings>,
}

impl Admission {
    /// What is said of an object that is to become this, within a bounded time.
    pub async fn review(&self, kind: &str, namespace: &str, object: &Value) -> Review {
        match kind {
            "Workflow" => self.workflow(namespace, object).await,
            "Connection" => read(object).map_or_else(|review| review, |it| connection(&it)),
            "LaunchPlan" => match read(object) {
                Ok(plan) => self.launch_plan(namespace, &plan).await,
                Err(review) => review,
            },
            _ => Review::default(),
        }
    }

    async fn workflow(&self, namespace: &str, object: &Value) -> Review {
        let workflow: api::Workflow = match read(object) {
            Ok(workflow) => workflow,
            Err(review) => return review,
        };
        let plan = match plan_alone(&workflow, &self.settings) {
            Ok(plan) => plan,
            Err(problems) => return Review::refused(problems),
        };
        let unit = self.desk.unit(namespace);
        let mut review = Review::default();
        match timeout(PATIENCE, self.sql(unit.as_deref(), namespace, &workflow, &plan, &mut review)).await {
            Ok(Ok(())) => {}
            Ok(Err(why)) => review.warn(format!("the SQL is not checked: {why}")),
            Err(_) => review.warn("not everything is checked: that takes longer than an admission may; see the status"),
        }
        review
    }

    /// Adds what the SQL shows, and what the objects around it.
    async fn sql(
        &self,
        unit: Option<&Unit>,
        namespace: &str,
        workflow: &api::Workflow,
        plan: &Plan,
        review: &mut Review,
    ) -> Result<(), String> {
        let around = match unit {
            Some(unit) => Some(around(unit, namespace, workflow).await?),
            None => None,
        };
        let none = Connections::new();
        let alone = stripped(around.as_ref().map_or(&none, |around| &around.connections));
        let names = connection_names(&workflow.spec);
        let mut answered = None;
        if !names_config_maps(&workflow.spec) && names.iter().all(|name| alone.contains_key(name)) {
            let request = checks::request(&self.settings.checker, plan, &alone, &Datasets::new());
            let response = self.ask(&request).await?;
            let unknown = (&Datasets::new(), &Publishers::new());
            let judgement = judge(workflow, plan, &alone, unknown, &response);
            review.problems = placed_all(workflow, &ConfigMaps::new(), &judgement.problems);
            answered = Some((request, response));
        }
        let (Some(unit), Some(around)) = (unit, around) else {
            if names.is_empty() && !names_config_maps(&workflow.spec) && !has_datasets(plan) {
                return Ok(());
            }
            return Err("this replica of the operator stands by, and knows no other objects".to_owned());
        };
        if !review.problems.is_empty() {
            return Ok(());
        }
        let plan = match workflow::plan(workflow, &around, &self.settings.runner) {
            Ok(plan) => plan,
            Err(problems) => {
                review.warn_of(&problems);
                return Err("first mend these".to_owned());
            }
        };
        let asked = checks::question(unit, namespace, workflow, &plan, &around.connections).await;
        let response = match answered {
            Some((request, response)) if request == asked.request => response,
            _ => self.ask(&asked.request).await?,
        };
        let others = (&asked.datasets, &asked.publishers);
        let judgement = judge(workflow, &plan, &around.connections, others, &response);
        for problems in [&judgement.problems, &judgement.broken, &judgement.notes] {
            review.warn_of(&placed_all(workflow, &around.config_maps, problems));
        }
        let given = published(&plan, &response);
        review.warn_of(&readers_broken(unit, namespace, &plan.workflow, &given, &judgement.publishers, &self.settings));
        Ok(())
    }

    async fn ask(&self, request: &CheckRequest) -> Result<CheckResponse, String> {
        let checker = self.checker.as_ref().ok_or("this installation has no checker")?;
        checker.check(request).await.map_err(|why| why.to_string())
    }

    async fn launch_plan(&self, namespace: &str, plan: &api::LaunchPlan) -> Review {
        let launch = match compile_launch_plan(plan) {
            Ok(launch) => launch,
            Err(problems) => return Review::refused(problems),
        };
        let mut review = Review::default();
        if let Some(unit) = self.desk.unit(namespace)
            && let Ok(connections) = timeout(PATIENCE, unit.connections_of(namespace)).await
        {
            let around = LaunchSurroundings { connections: &connections, inputs: None };
            review.warn_of(&check_launch_plan(&launch, &around));
        }
        review
    }
}

/// An object that this build cannot read is let through: the operator says so in its status.
fn read<K: serde::de::DeserializeOwned>(object: &Value) -> Result<K, Review> {
    serde_json::from_value(object.clone()).map_err(|error| {
        let mut review = Review::default();
        review.warn(format!("not checked: this operator cannot read the object: {error}"));
        review
    })
}

fn connection(connection: &api::Connection) -> Review {
    let spec = &connection.spec;
    Review::refused(check_connection(spec).into_iter().chain(check_connection_on_cluster(spec)).collect())
}

/// The plan of a workflow next to whatever it needs.
fn plan_alone(workflow: &api::Workflow, settings: &Settings) -> Result<Plan, Vec<Problem>> {
    // Without a kind a connection fits every use.
    let unclear = |name: String| {
        let connection = api::Connection::new(&name.replace('_', "-"), api::ConnectionSpec::default());
        (name, Arc::new(connection))
    };
    let connections = connection_names(&workflow.spec).into_iter().map(unclear).collect();
    let mut config_maps = ConfigMaps::new();
    for from in workflow.spec.tasks.iter().filter_map(|task| task.duckdb.as_ref()?.query_from.as_ref()) {
        let reference = &from.config_map_key_ref;
        let keys: &mut BTreeMap<String, String> = config_maps.entry(reference.name.clone()).or_default();
        keys.insert(reference.key.clone(), "SELECT 1 AS one".to_owned());
    }
    let plan = pintail_plan::compile(workflow, &Surroundings { connections, config_maps })?;
    let runner = &settings.runner;
    let mut accounts = vec![runner.service_account.as_str()];
    accounts.extend(runner.allowed_service_accounts.iter().map(String::as_str));
    let problems = check_workflow_on_cluster(workflow, &plan, &accounts);
    if problems.is_empty() { Ok(plan) } else { Err(problems) }
}

async fn around(unit: &Unit, namespace: &str, workflow: &api::Workflow) -> Result<Surroundings, String> {
    let config_maps = revision::config_maps(&unit.context.client, namespace, &workflow.spec).await;
    let config_maps = config_maps.map_err(|error| error.to_string())?;
    Ok(Surroundings { connections: unit.connections_of(namespace).await, config_maps })
}

/// Connections of which no more is known than their kind: their tables are theirs to change.
fn stripped(connections: &Connections) -> Connections {
    let strip = |(name, connection): (&String, &Arc<api::Connection>)| {
        let mut connection = api::Connection::clone(connection);
        connection.spec.tables = None;
        (name.clone(), Arc::new(connection))
    };
    connections.iter().map(strip).collect()
}

/// Whether it reads or publishes what others publish or read.
fn has_datasets(plan: &Plan) -> bool {
    plan.inputs.iter().any(|input| dataset_of(input).is_some()) || plan.outputs.iter().any(|it| it.publish.is_some())
}

fn placed_all(workflow: &api::Workflow, config_maps: &ConfigMaps, problems: &[Problem]) -> Vec<Problem> {
    problems.iter().map(|problem| placed(workflow, config_maps, problem)).collect()
}

/// The contracts of other Workflows that what is published now breaks.
fn readers_broken(
    unit: &Unit,
    namespace: &str,
    publisher: &str,
    datasets: &Datasets,
    publishers: &Publishers,
    settings: &Settings,
) -> Vec<Problem> {
    let workflows = unit.workflows.within(namespace);
    let reads = |object: &&Arc<kube::core::DynamicObject>| {
        object.metadata.name.as_deref() != Some(publisher)
            && datasets_read(object).any(|dataset| datasets.contains_key(dataset))
    };
    let readers = workflows.iter().filter(reads).take(READERS);
    let broken = readers.filter_map(|object| {
        let reader: api::Workflow = decode(object).ok()?;
        let plan = plan_alone(&reader, settings).ok()?;
        Some(broken_readers(&reader, &plan, datasets, publishers))
    });
    broken.flatten().collect()
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use futures::future::BoxFuture;
    use pintail_protocol::{CheckPlace, CheckRule, Finding};
    use serde_json::json;

    use super::*;
    use crate::Unchecked;

    /// Finds what it was told to, of whatever it is asked.
    struct Finds(Result<Vec<Finding>, Unchecked>);

    impl SqlChecker for Finds {
        fn check<'a>(&'a self, _: &'a CheckRequest) -> BoxFuture<'a, Result<CheckResponse, Unchecked>> {
            let found = self.0.clone().map(|findings| CheckResponse { findings, ..CheckResponse::default() });
            futures::future::ready(found).boxed()
        }
    }

    async fn review(kind: &str, spec: Value, found: Result<Vec<Finding>, Unchecked>) -> Review {
        let settings = json!({
            "namespace": "pintail-system", "store": { "uri": "s3://b/p" },
            "runner": { "image": "r", "serviceAccount": "pintail-runner", "podTtlSeconds": 60 },
        });
        let settings = Arc::new(Settings::parse(&settings.to_string()).expect("settings"));
        let admission = Admission { desk: Desk::default(), checker: Some(Arc::new(Finds(found))), settings };
        let object = json!({ "apiVersion": api::API_VERSION, "kind": kind, "metadata": { "name": "w" }, "spec": spec });
        admission.review(kind, "data", &object).await
    }

    fn workflow(query: &str, reads: &[&str]) -> Value {
        json!({ "tasks": [{ "name": "a", "reads": reads, "duckdb": { "query": query } }] })
    }

    fn finding(offset: usize) -> Finding {
        Finding {
            task: "a".to_owned(),
            place: CheckPlace::Query("result".to_owned()),
            offset: Some(offset),
            rule: CheckRule::UnknownColumn,
            message: "there is no column `b`".to_owned(),
            suggestion: None,
        }
    }

    #[tokio::test]
    async fn what_is_wrong_in_itself_is_refused_with_its_place() {
        let found = review("Workflow", workflow("SELECT\n  b", &[]), Ok(vec![finding(9)])).await;
        let problems: Vec<String> = found.problems.iter().map(ToString::to_string).collect();
        assert_eq!(problems, ["spec.tasks[0].duckdb.query: line 2, column 3: there is no column `b` [unknown-column]"]);
        let found = review(
            "Workflow",
            json!({ "tasks": [{ "name": "a", "uses": ["nobody"], "duckdb": { "query": "SELECT 1" } }] }),
            Ok(Vec::new()),
        )
        .await;
        assert!(found.problems.iter().any(|problem| problem.to_string().contains("nobody")), "{found:?}");
    }

    #[tokio::test]
    async fn what_hangs_on_others_or_is_not_checked_is_a_warning() {
        let found = review("Workflow", workflow("SELECT * FROM lake.trips", &["lake"]), Ok(vec![finding(7)])).await;
        assert_eq!(found.problems, []);
        assert!(found.warnings[0].starts_with("the SQL is not checked: this replica"), "{found:?}");
        let found = review("Workflow", workflow("SELECT 1", &[]), Err(Unchecked::Later("away".to_owned()))).await;
        assert_eq!(found.warnings, ["the SQL is not checked: the checker does not answer: away"]);
        assert_eq!(found.problems, []);
    }

    #[tokio::test]
    async fn a_connection_is_checked_and_what_cannot_be_read_is_let_through() {
        let found = review("Connection", json!({ "http": { "url": "ftp://example.com" } }), Ok(Vec::new())).await;
        assert!(!found.problems.is_empty());
        let found = review("Workflow", json!({ "tasks": [{ "colour": 1 }] }), Ok(Vec::new())).await;
        assert!(found.problems.is_empty() && found.warnings[0].starts_with("not checked"), "{found:?}");
    }

    #[test]
    fn warnings_are_few_and_short() {
        let mut review = Review::default();
        (0..100).for_each(|number| review.warn(format!("{number} {}", "é".repeat(300))));
        assert_eq!(review.warnings.len(), WARNINGS);
        assert!(review.warnings.iter().all(|text| text.len() <= WARNING_BYTES));
    }
}
