//! What columns a table must have, and which of those it has.

use pintail_protocol::{Contract, OtherColumns, ResultColumn, widens};

use crate::failure::TaskFailure;
use crate::session::Session;
use crate::sql;

/// Where a contract's column comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Origin {
    /// That column of the table, as it is.
    Same(String),
    /// That column of the table, cast to the contract's type without loss.
    Widened(String),
    FileName,
}

/// How a table is turned into what its contract says.
#[derive(Clone, Debug)]
pub(crate) struct Projection {
    columns: Vec<(Origin, ResultColumn)>,
    kept: Vec<String>,
}

/// Name of the column with a row's file, where it is asked for.
pub(crate) const FILE_COLUMN: &str = "pintail_file";

/// How many lines of a broken contract are shown.
const SHOWN_DIFFERENCES: usize = 20;

impl Projection {
    /// The select list that gives the contract's columns, in its order, then the others where they are kept.
    pub(crate) fn select_list(&self) -> String {
        let kept = self.kept.iter().map(|name| sql::identifier(name));
        let columns = self.columns.iter().map(|(origin, column)| {
            let name = sql::identifier(&column.name);
            match origin {
                Origin::Same(found) => format!("{} AS {name}", sql::identifier(found)),
                Origin::Widened(found) => format!("CAST({} AS {}) AS {name}", sql::identifier(found), column.data_type),
                Origin::FileName => format!("CAST(parse_filename({FILE_COLUMN}) AS {}) AS {name}", column.data_type),
            }
        });
        columns.chain(kept).collect::<Vec<_>>().join(", ")
    }

    /// Whether the table is already what the contract says, in its order.
    pub(crate) fn changes_nothing(&self, found: &[ResultColumn]) -> bool {
        self.columns.len() + self.kept.len() == found.len()
            && self
                .columns
                .iter()
                .zip(found)
                .all(|((origin, _), column)| matches!(origin, Origin::Same(name) if *name == column.name))
    }

    pub(crate) fn needs_file_name(&self) -> bool {
        self.columns.iter().any(|(origin, _)| *origin == Origin::FileName)
    }
}

/// The contract with its types as DuckDB writes them.
///
/// # Errors
/// `InvalidContract` for a type that DuckDB does not know.
pub(crate) fn canonical(session: &Session, contract: &Contract) -> Result<Contract, TaskFailure> {
    let casts: Vec<_> = contract.columns.iter().map(|c| format!("typeof(CAST(NULL AS {}))", c.data_type)).collect();
    if casts.is_empty() {
        return Ok(contract.clone());
    }
    let types: Vec<String> = session
        .connection()
        .query_row(&format!("SELECT {}", casts.join(", ")), [], |row| (0..casts.len()).map(|i| row.get(i)).collect())
        .map_err(|error| TaskFailure::from_duckdb(&error, "read the contract's types"))?;
    let mut contract = contract.clone();
    for (column, data_type) in contract.columns.iter_mut().zip(types) {
        column.data_type = data_type;
    }
    Ok(contract)
}

/// Compares a table with a (canonical) contract. `object` names the table in errors, such as `file in/orders.csv`.
///
/// # Errors
/// `ContractViolated`, with what was expected and found.
pub(crate) fn project(contract: &Contract, found: &[ResultColumn], object: &str) -> Result<Projection, TaskFailure> {
    let mut differences = Vec::new();
    let mut columns = Vec::new();
    let find = |name: &str| found.iter().find(|column| column.name.eq_ignore_ascii_case(name));
    for wanted in &contract.columns {
        let origin = match find(&wanted.name) {
            _ if wanted.from_file_name => Origin::FileName,
            Some(column) if column.data_type == wanted.data_type => Origin::Same(column.name.clone()),
            Some(column) if widens(&column.data_type, &wanted.data_type) => Origin::Widened(column.name.clone()),
            Some(column) => {
                differences.push((wanted.name.as_str(), wanted.data_type.as_str(), column.data_type.as_str()));
                continue;
            }
            None => {
                differences.push((wanted.name.as_str(), wanted.data_type.as_str(), "no such column"));
                continue;
            }
        };
        columns.push((origin, ResultColumn { name: wanted.name.clone(), data_type: wanted.data_type.clone() }));
    }
    let wanted = |name: &str| contract.columns.iter().any(|column| column.name.eq_ignore_ascii_case(name));
    let others = found.iter().filter(|column| !wanted(&column.name));
    let mut kept = Vec::new();
    match contract.other_columns {
        OtherColumns::Drop => {}
        OtherColumns::Keep => kept.extend(others.map(|column| column.name.clone())),
        OtherColumns::Fail => {
            differences
                .extend(others.map(|column| (column.name.as_str(), "no other column", column.data_type.as_str())));
        }
    }
    if differences.is_empty() { Ok(Projection { columns, kept }) } else { Err(violation(object, &differences, found)) }
}

fn violation(object: &str, differences: &[(&str, &str, &str)], found: &[ResultColumn]) -> TaskFailure {
    let width = |of: fn(&(&str, &str, &str)) -> usize| differences.iter().map(of).max().unwrap_or(0);
    let (names, types) = (width(|d| d.0.chars().count()).max(6), width(|d| d.1.chars().count()).max(8));
    let mut lines = vec![format!("  {:names$}  {:types$}  found", "column", "expected")];
    let shown = differences.iter().take(SHOWN_DIFFERENCES);
    lines.extend(shown.map(|(name, expected, found)| format!("  {name:names$}  {expected:types$}  {found}")));
    if differences.len() > SHOWN_DIFFERENCES {
        lines.push(format!("  … and {} more", differences.len() - SHOWN_DIFFERENCES));
    }
    let present: Vec<_> = found.iter().take(SHOWN_DIFFERENCES).map(|column| column.name.as_str()).collect();
    TaskFailure::permanent(
        "ContractViolated",
        format!("{object} breaks its contract:\n{}\nIts columns are: {}", lines.join("\n"), present.join(", ")),
    )
}

#[cfg(test)]
mod tests {
    use pintail_protocol::ContractColumn;

    use super::*;

    fn contract(columns: &[(&str, &str)], other_columns: OtherColumns) -> Contract {
        let columns = columns
            .iter()
            .map(|(name, data_type)| ContractColumn {
                name: (*name).to_owned(),
                data_type: (*data_type).to_owned(),
                nullable: true,
                from_file_name: false,
            })
            .collect();
        Contract { columns, other_columns }
    }

    fn table(columns: &[(&str, &str)]) -> Vec<ResultColumn> {
        columns.iter().map(|(n, t)| ResultColumn { name: (*n).to_owned(), data_type: (*t).to_owned() }).collect()
    }

    #[test]
    fn columns_are_found_whatever_their_case_and_put_in_the_contracts_order() {
        let contract = contract(&[("Id", "BIGINT"), ("name", "VARCHAR")], OtherColumns::Drop);
        let found = table(&[("NAME", "VARCHAR"), ("ID", "INTEGER"), ("extra", "DOUBLE")]);
        let projection = project(&contract, &found, "file x").unwrap();
        assert_eq!(projection.select_list(), r#"CAST("ID" AS BIGINT) AS "Id", "NAME" AS "name""#);
    }

    #[test]
    fn every_difference_is_listed_at_once() {
        let contract = contract(&[("id", "BIGINT"), ("price", "DECIMAL(12,2)"), ("day", "DATE")], OtherColumns::Fail);
        let found = table(&[("id", "VARCHAR"), ("day", "DATE"), ("extra", "DOUBLE")]);
        let failure = project(&contract, &found, "file x.parquet").unwrap_err();
        assert_eq!(failure.reason, "ContractViolated");
        assert_eq!(
            failure.message,
            "file x.parquet breaks its contract:\n  column  expected         found\n  id      BIGINT           VARCHAR\n  \
             price   DECIMAL(12,2)    no such column\n  extra   no other column  DOUBLE\nIts columns are: id, day, extra"
        );
    }
}
