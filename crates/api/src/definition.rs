use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

use crate::{Artifact, Connection, Execution, LaunchPlan, Workflow};

/// The CustomResourceDefinition of every kind.
pub fn definitions() -> Vec<CustomResourceDefinition> {
    vec![Artifact::crd(), Connection::crd(), Execution::crd(), LaunchPlan::crd(), Workflow::crd()]
}
