//! The tables and parameters at the bottom of plans.

use std::collections::BTreeMap;

use pintail_protocol::{SourceTable, Sources, plain_table};
use serde_json::Value;

use super::plan::{Origin, list};
use crate::sql;

const COLUMN_MARK: &str = "pintail column ";
const PARAMETER_MARK: &str = "pintail parameter ";

/// A NULL that a plan shows to be that column of the table, by its position. Nothing folds it, and wherever the planner
/// moves it, it stays what it is.
pub(in super::super) fn marked_column(table: &str, position: usize, data_type: &str) -> String {
    marked(&format!("{COLUMN_MARK}{position} {table}"), data_type)
}

/// The same for a parameter, as a subquery: of a constant that is NULL, functions make NULL at once.
pub(super) fn marked_parameter(name: &str, data_type: &str) -> String {
    format!("(SELECT {})", marked(&format!("{PARAMETER_MARK}{name}"), data_type))
}

fn marked(mark: &str, data_type: &str) -> String {
    format!("CAST(CASE WHEN {} = '' THEN NULL END AS {data_type})", sql::text(mark))
}

/// Functions that give rows of their arguments, and of nothing else.
const PLAIN_FUNCTIONS: [&str; 8] =
    ["range", "generate_series", "generate_subscripts", "repeat", "repeat_row", "unnest", "json_each", "json_tree"];

/// A table in the session: database, schema and name, in small letters.
pub(super) type TableName = [String; 3];

/// What a task's plans may read.
#[derive(Clone, Debug, Default)]
pub(super) struct Tables {
    /// Names of the task's tables, what they are, and their columns.
    pub given: BTreeMap<String, (SourceTable, Vec<String>)>,
    /// Every parameter, in small letters, and the columns that it comes from.
    pub parameters: BTreeMap<String, Sources>,
    /// Databases that are attached.
    pub databases: Vec<String>,
    /// What statements of setup made or changed: columns by their names.
    pub made: BTreeMap<TableName, Vec<(String, Origin)>>,
}

impl Tables {
    /// What a CASE stands for that marks a column or a parameter.
    pub fn marked(&self, case: &Value) -> Option<Sources> {
        let mut constant = &list(&case["case_checks"]).first()?["when_expr"]["left"];
        while let Some(child) = constant.get("child") {
            constant = child;
        }
        let mark = constant["value"]["value"].as_str()?;
        if let Some(name) = mark.strip_prefix(PARAMETER_MARK) {
            return self.parameters.get(name).cloned();
        }
        let (position, table) = mark.strip_prefix(COLUMN_MARK)?.split_once(' ')?;
        let (table, columns) = self.given.get(table)?;
        Some(Sources::column(table.clone(), columns.get(position.parse::<usize>().ok()?)?))
    }

    /// A column of a table that is scanned. `None` for a function that only computes of its arguments.
    pub fn column(&self, step: &Value, column: &str) -> Option<Origin> {
        let function = step["name"].as_str().unwrap_or_default();
        if function != "seq_scan" {
            let is_plain = PLAIN_FUNCTIONS.contains(&function);
            return (!is_plain).then(|| Origin::unknown(&format!("it reads the table function `{function}`")));
        }
        let name = table_name(&step["function_data"]);
        let made = self.made.get(&name).map(|columns| {
            let found = columns.iter().find(|(name, _)| name.eq_ignore_ascii_case(column));
            found.map_or_else(|| Origin::unknown("a statement of `setup` changes the table"), |(_, it)| it.clone())
        });
        match (made, self.database_table(&name)) {
            // What was there before is still there.
            (Some(mut made), Some(table)) => {
                made.sources.extend(&Sources::column(table, column));
                Some(made)
            }
            (Some(made), None) => Some(made),
            (None, Some(table)) => Some(Origin { sources: Sources::column(table, column), unknown: None }),
            (None, None) => {
                Some(Origin::unknown("it reads a table that `setup` makes in a way that is not understood"))
            }
        }
    }

    /// The table, where it is one of an attached database.
    pub fn database_table(&self, [database, schema, table]: &TableName) -> Option<SourceTable> {
        let connection = self.databases.iter().find(|name| name.eq_ignore_ascii_case(database))?;
        Some(SourceTable::Database { connection: connection.clone(), table: plain_table(&format!("{schema}.{table}")) })
    }
}

/// The table that a scan or a statement names.
pub(super) fn table_name(named: &Value) -> TableName {
    ["catalog", "schema", "table"].map(|field| named[field].as_str().unwrap_or_default().to_lowercase())
}
