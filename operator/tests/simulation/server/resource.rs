//! The kinds of objects that the server knows.

/// One kind.
#[derive(Debug, PartialEq, Eq)]
pub struct Resource {
    pub group: &'static str,
    pub version: &'static str,
    pub plural: &'static str,
    pub kind: &'static str,
    pub namespaced: bool,
    /// Has the subresource `status`, which the object's own writes cannot touch.
    pub has_status: bool,
}

const fn own(plural: &'static str, kind: &'static str) -> Resource {
    Resource { group: "pintail.dev", version: "v1alpha1", plural, kind, namespaced: true, has_status: true }
}

const fn known(group: &'static str, plural: &'static str, kind: &'static str) -> Resource {
    Resource { group, version: "v1", plural, kind, namespaced: true, has_status: false }
}

pub static RESOURCES: [Resource; 17] = [
    Resource { namespaced: false, has_status: true, ..known("", "namespaces", "Namespace") },
    Resource { has_status: true, ..known("", "pods", "Pod") },
    known("", "configmaps", "ConfigMap"),
    known("", "secrets", "Secret"),
    known("", "services", "Service"),
    known("", "serviceaccounts", "ServiceAccount"),
    known("", "persistentvolumeclaims", "PersistentVolumeClaim"),
    known("", "events", "Event"),
    known("apps", "controllerrevisions", "ControllerRevision"),
    known("coordination.k8s.io", "leases", "Lease"),
    known("events.k8s.io", "events", "Event"),
    Resource {
        namespaced: false,
        has_status: true,
        ..known("apiextensions.k8s.io", "customresourcedefinitions", "CustomResourceDefinition")
    },
    own("workflows", "Workflow"),
    own("executions", "Execution"),
    own("artifacts", "Artifact"),
    own("connections", "Connection"),
    own("launchplans", "LaunchPlan"),
];

impl Resource {
    pub fn find(group: &str, version: &str, plural: &str) -> Option<&'static Self> {
        RESOURCES.iter().find(|known| known.group == group && known.version == version && known.plural == plural)
    }

    /// The one with this plural, of whatever group; the first where there are more.
    pub fn named(plural: &str) -> &'static Self {
        RESOURCES.iter().find(|known| known.plural == plural).unwrap_or_else(|| panic!("no resource {plural:?}"))
    }

    pub fn of_kind(api_version: &str, kind: &str) -> Option<&'static Self> {
        RESOURCES.iter().find(|known| known.kind == kind && known.api_version() == api_version)
    }

    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.to_owned() } else { format!("{}/{}", self.group, self.version) }
    }

    pub fn is_custom(&self) -> bool {
        self.group == "pintail.dev"
    }

    /// `executions.pintail.dev`, or `pods`.
    pub fn qualified_plural(&self) -> String {
        if self.group.is_empty() { self.plural.to_owned() } else { format!("{}.{}", self.plural, self.group) }
    }

    /// `Execution.pintail.dev`, or `Pod`.
    pub fn qualified_kind(&self) -> String {
        if self.group.is_empty() { self.kind.to_owned() } else { format!("{}.{}", self.kind, self.group) }
    }
}
