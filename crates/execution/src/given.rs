//! Tables that no run binds.

use pintail_api as api;
use pintail_plan as plan;
use pintail_protocol as protocol;
use pintail_protocol::RelationSource;

use crate::order::{contract_of, format_of, options_of, row_values};

/// A table that no input binds, such as one that a test puts into a database: a file by `uri`, else rows.
#[must_use]
pub fn given_relation(name: &str, source: &api::TableSource, contract: Option<&plan::Contract>) -> protocol::Relation {
    let contract = contract.map(contract_of);
    let source = match (&source.uri, &contract) {
        (Some(uri), _) => RelationSource::Uri {
            uri: uri.clone(),
            format: source.format.map(format_of),
            options: options_of(source.options.as_ref()),
            pinned: None,
        },
        (None, contract) => {
            let rows = source.rows.as_deref().unwrap_or_default();
            let values = |row| contract.as_ref().map(|contract| row_values(row, contract)).unwrap_or_default();
            RelationSource::Rows { rows: rows.iter().map(values).collect() }
        }
    };
    protocol::Relation { name: name.to_owned(), source, contract }
}
