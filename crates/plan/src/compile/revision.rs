use pintail_api as api;
use serde_json::Value as Json;
use sha2::{Digest, Sha256};

use super::{Compiler, DEFINITION_BYTES_MAX};
use crate::Rule;
use crate::problem::FieldPath;

/// Of 40 bits: two definitions of one workflow share it by chance once in a million million pairs.
const DIGEST_CHARS: usize = 10;

impl Compiler<'_> {
    /// `<workflow>-<digest of the definition>`, with the SQL of ConfigMaps in its place.
    pub(super) fn revision(&mut self) -> String {
        let mut spec = self.workflow.spec.clone();
        for task in &mut spec.tasks {
            let Some(duckdb) = &mut task.duckdb else { continue };
            if let Some(from) = &duckdb.query_from
                && let Some(query) = self.config_map_text(from)
            {
                duckdb.query = Some(query.to_owned());
                duckdb.query_from = None;
            }
        }
        let text = canonical(&spec);
        if text.len() > DEFINITION_BYTES_MAX {
            let message = format!(
                "the workflow with all its SQL has {} KiB, more than {}",
                text.len() >> 10,
                DEFINITION_BYTES_MAX >> 10
            );
            self.problem(Rule::PlanLimit, &FieldPath::root().field("spec"), message);
        }
        let digest: String = Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
        let name = self.workflow.metadata.name.as_deref().unwrap_or_default();
        format!("{name}-{}", &digest[..DIGEST_CHARS])
    }
}

/// JSON with sorted keys and without spaces: equal definitions give equal text.
fn canonical(spec: &api::WorkflowSpec) -> String {
    // A definition is made of maps with text keys, which JSON always takes.
    let mut value = serde_json::to_value(spec).unwrap_or_default();
    value.sort_all_objects();
    Json::to_string(&value)
}
