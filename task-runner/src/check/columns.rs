//! Columns that a manifest names, and contracts: against the columns that queries give.

use pintail_protocol::{
    CheckPlace, CheckQuery, CheckRule, CheckTask, DatabaseTable, Load, NamedColumn, ResultColumn, TableShape, widens,
};

use super::names::{find, is_number, nearest, quoted, typed};
use super::{Flow, Problem};
use crate::load::{Measure, is_same, keeps_values, measure};

pub(super) type Found = Vec<(CheckPlace, Problem)>;

/// What charts name, against the tables that they are drawn of.
pub(super) fn named(flow: &mut Flow<'_>, task: &CheckTask, columns: &[NamedColumn]) {
    let tables = flow.tables(task);
    for wanted in columns {
        let shape = tables.iter().find(|(name, _)| *name == wanted.table).and_then(|(_, shape)| shape.as_ref());
        let Some(shape) = shape else { continue };
        match find(&shape.columns, &wanted.column) {
            Some(column) if wanted.must_be_number && !is_number(&column.data_type) => {
                let message =
                    format!("`{}` is {}, and a vertical column must be a number", column.name, column.data_type);
                flow.found(task, wanted.place.clone(), Problem::new(CheckRule::WrongColumnType, message));
            }
            None if !shape.open => {
                let problem = missing(&format!("table `{}`", wanted.table), &wanted.column, &shape.columns);
                flow.found(task, wanted.place.clone(), problem);
            }
            _ => {}
        }
    }
}

fn missing(of: &str, name: &str, columns: &[ResultColumn]) -> Problem {
    let near = nearest(name, columns.iter().map(|column| column.name.as_str())).map(quoted);
    let message = format!("{of} has no column `{name}`; there are {}", typed(columns));
    Problem::new(CheckRule::UnknownColumn, message).suggest(near)
}

/// What a query gives, against the contract of its output. `contract` has its types as DuckDB writes them.
pub(super) fn broken_contract(
    query: &CheckQuery,
    contract: &pintail_protocol::Contract,
    found: &[ResultColumn],
) -> Found {
    let mut problems = Found::new();
    for (position, wanted) in contract.columns.iter().enumerate() {
        let problem = match find(found, &wanted.name) {
            Some(column) if column.data_type != wanted.data_type && !widens(&column.data_type, &wanted.data_type) => {
                let message = format!(
                    "`{}` is declared {}, and the query gives {}",
                    wanted.name, wanted.data_type, column.data_type
                );
                Problem::new(CheckRule::BrokenContract, message)
                    .suggest(Some(format!("`CAST({} AS {})` in the query", column.name, wanted.data_type)))
            }
            Some(_) => continue,
            None => {
                let near = nearest(&wanted.name, found.iter().map(|column| column.name.as_str()));
                let message = format!("the query gives no column `{}`; it gives {}", wanted.name, typed(found));
                Problem::new(CheckRule::BrokenContract, message)
                    .suggest(near.map(|near| format!("`{} AS {}`", near, wanted.name)))
            }
        };
        problems.push((CheckPlace::ContractColumn(query.output.clone(), position), problem));
    }
    problems
}

/// What a load names, against its query.
pub(super) fn load_columns(load: &Load, query: &[ResultColumn]) -> Found {
    let mut problems = Found::new();
    let mut need = |name: &str, place: CheckPlace| {
        if find(query, name).is_none() {
            problems.push((place, missing("the query", name, query)));
        }
    };
    for (position, key) in load.key.iter().enumerate() {
        need(key, CheckPlace::LoadKey(position));
    }
    if let Some(prefer) = &load.prefer {
        need(&prefer.column, CheckPlace::LoadPrefer);
    }
    if let Some(watermark) = &load.watermark {
        need(&watermark.column, CheckPlace::WatermarkColumn);
        if let Some(column) = find(query, &watermark.column)
            && !measures(&column.data_type, watermark)
        {
            let message = format!(
                "the watermark column `{}` is {}; it is a date or timestamp with a duration such as 1h as overlap, or a \
                 number with a number",
                column.name, column.data_type
            );
            problems.push((CheckPlace::WatermarkColumn, Problem::new(CheckRule::WrongColumnType, message)));
        }
    }
    if let Some(stamp) = load.stamp.as_ref().filter(|stamp| find(query, stamp).is_some()) {
        let message = format!("the query gives the column `{stamp}`, which the load sets itself");
        problems.push((CheckPlace::LoadStamp, Problem::new(CheckRule::BrokenContract, message)));
    }
    problems
}

fn measures(data_type: &str, watermark: &pintail_protocol::Watermark) -> bool {
    use pintail_protocol::Overlap;
    match (measure(data_type), watermark.overlap) {
        (Some(Measure::Time), Some(Overlap::Number(_))) => false,
        (Some(Measure::Integer | Measure::Fraction), Some(Overlap::DurationMs(_))) => false,
        (measure, _) => measure.is_some(),
    }
}

/// A query's columns, against the table that is there already.
pub(super) fn load_table(load: &Load, query: &[ResultColumn], table: &DatabaseTable) -> Found {
    let mut problems = Found::new();
    let name = format!("{}.{}", load.connection, table.name);
    for column in query {
        let problem = match table.columns.iter().find(|it| is_same(&it.name, &column.name)) {
            None => missing(&format!("table `{name}`"), &column.name, &table.columns),
            Some(target) if !keeps_values(&column.data_type, &target.data_type) => {
                let message = format!(
                    "`{}` is {} in the query and {} in table `{name}`",
                    column.name, column.data_type, target.data_type
                );
                Problem::new(CheckRule::BrokenContract, message)
                    .suggest(Some(format!("`CAST({} AS {})` in the query", column.name, target.data_type)))
            }
            Some(_) => continue,
        };
        problems.push((CheckPlace::LoadInto, problem));
    }
    if let Some(stamp) = load.stamp.as_ref().filter(|stamp| find(&table.columns, stamp).is_none()) {
        problems.push((CheckPlace::LoadStamp, missing(&format!("table `{name}`"), stamp, &table.columns)));
    }
    problems
}

/// The columns that a result has under its contract.
pub(super) fn under_contract(contract: &pintail_protocol::Contract, found: Option<&TableShape>) -> TableShape {
    let is_wanted = |name: &str| contract.columns.iter().any(|column| column.name.eq_ignore_ascii_case(name));
    let mut columns: Vec<ResultColumn> = contract
        .columns
        .iter()
        .map(|column| ResultColumn { name: column.name.clone(), data_type: column.data_type.clone() })
        .collect();
    let keeps = contract.other_columns == pintail_protocol::OtherColumns::Keep;
    if keeps {
        columns.extend(found.iter().flat_map(|it| &it.columns).filter(|it| !is_wanted(&it.name)).cloned());
    }
    TableShape { columns, open: keeps && found.is_none_or(|found| found.open) }
}
