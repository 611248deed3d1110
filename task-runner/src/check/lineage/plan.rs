//! DuckDB's bound plan of a statement, walked from its tables up.
//!
//! `json_serialize_plan` gives the logical plan as the binder leaves it, before any optimizer: each step gives columns,
//! and each expression names columns of the steps below, by position or by table index. A step that is not known here
//! makes the whole statement unknown; DuckDB's plans are no interface, so a newer DuckDB may have some.

use std::collections::BTreeMap;

use pintail_protocol::{How, Sources};
use serde_json::Value;

use super::tables::Tables;

/// How often the recursive part of a query is walked until nothing new comes of it.
const ROUNDS_MAX: usize = 32;

/// What a value comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Origin {
    pub sources: Sources,
    /// Why that is not all.
    pub unknown: Option<String>,
}

impl Origin {
    pub fn through(self, how: How, masked: bool) -> Self {
        let unknown = self.unknown.filter(|_| how.is_value());
        Self { sources: self.sources.through(how, masked), unknown }
    }

    pub fn extend(&mut self, other: &Self) {
        self.sources.extend(&other.sources);
        if self.unknown.is_none() {
            self.unknown.clone_from(&other.unknown);
        }
    }

    pub fn unknown(reason: &str) -> Self {
        Self { sources: Sources::default(), unknown: Some(reason.to_owned()) }
    }

    fn all<'a>(origins: impl IntoIterator<Item = &'a Self>) -> Self {
        let mut all = Self::default();
        origins.into_iter().for_each(|origin| all.extend(origin));
        all
    }
}

/// A column of a step, by its place in DuckDB's numbering of tables.
#[derive(Clone, Debug)]
pub(super) struct Column {
    pub table: u64,
    pub column: u64,
    pub origin: Origin,
}

pub(super) type Columns = Vec<Column>;

/// Why a plan is not understood.
pub(super) type Lost = String;

pub(super) struct Walk<'a> {
    pub tables: &'a Tables,
    pub masking: &'a [String],
    /// What decides on the rows of the statement, in any of its steps.
    pub rows: Sources,
    /// Columns of the WITH queries around, by index.
    shared: BTreeMap<u64, Vec<Origin>>,
    /// Columns that correlated subqueries around see of the outside, innermost last.
    outside: Vec<Vec<Origin>>,
}

impl<'a> Walk<'a> {
    pub fn new(tables: &'a Tables, masking: &'a [String]) -> Self {
        Self { tables, masking, rows: Sources::default(), shared: BTreeMap::new(), outside: Vec::new() }
    }

    /// The columns of a step.
    pub fn columns(&mut self, step: &Value) -> Result<Columns, Lost> {
        let kind = step["type"].as_str().unwrap_or_default();
        match kind {
            "LOGICAL_PROJECTION" => {
                let below = self.below(step)?;
                let origins = self.expressions(&step["expressions"], &below);
                Ok(numbered(index(step, "table_index"), origins))
            }
            "LOGICAL_FILTER" => {
                let below = self.below(step)?;
                self.decide(&step["expressions"], &below, How::Filter);
                projected(below, &step["projection_map"])
            }
            "LOGICAL_ORDER_BY" | "LOGICAL_TOP_N" => {
                let below = self.below(step)?;
                self.decide(&step["orders"], &below, How::Sort);
                projected(below, &step["projections"])
            }
            "LOGICAL_LIMIT" | "LOGICAL_SAMPLE" => self.below(step),
            "LOGICAL_DISTINCT" => {
                let below = self.below(step)?;
                if step["distinct_type"] == "DISTINCT_ON" {
                    self.decide(&step["distinct_targets"], &below, How::GroupBy);
                    self.decide(&step["order_by"], &below, How::Sort);
                }
                Ok(below)
            }
            "LOGICAL_AGGREGATE_AND_GROUP_BY" => self.groups(step),
            "LOGICAL_WINDOW" => self.beside(step, "window_index"),
            "LOGICAL_UNNEST" => self.beside(step, "unnest_index"),
            "LOGICAL_GET" => self.table(step),
            "LOGICAL_EXPRESSION_GET" => self.listed(step),
            "LOGICAL_DUMMY_SCAN" => Ok(numbered(index(step, "table_index"), vec![Origin::default()])),
            "LOGICAL_CHUNK_GET" => {
                let count = list(&step["chunk_types"]).len();
                Ok(numbered(index(step, "table_index"), vec![Origin::default(); count]))
            }
            "LOGICAL_COMPARISON_JOIN" | "LOGICAL_ASOF_JOIN" | "LOGICAL_ANY_JOIN" | "LOGICAL_DELIM_JOIN" => {
                self.join(step)
            }
            "LOGICAL_CROSS_PRODUCT" | "LOGICAL_POSITIONAL_JOIN" => {
                let (left, right) = sides(step)?;
                let mut columns = self.columns(left)?;
                columns.extend(self.columns(right)?);
                Ok(columns)
            }
            "LOGICAL_UNION" | "LOGICAL_EXCEPT" | "LOGICAL_INTERSECT" => self.set_operation(step, kind),
            "LOGICAL_MATERIALIZED_CTE" => {
                let (shared, rest) = sides(step)?;
                let shared = origins(self.columns(shared)?);
                self.shared.insert(index(step, "table_index"), shared);
                self.columns(rest)
            }
            "LOGICAL_RECURSIVE_CTE" => self.recursive(step),
            "LOGICAL_CTE_REF" => {
                let shared = self.shared.get(&index(step, "cte_index"));
                let shared = shared.ok_or("a WITH query is read before it is made")?.clone();
                Ok(numbered(index(step, "table_index"), shared))
            }
            "LOGICAL_DELIM_GET" => {
                let outside = self.outside.last().cloned().unwrap_or_default();
                if outside.len() != list(&step["chunk_types"]).len() {
                    return Err("a correlated subquery is not understood".to_owned());
                }
                Ok(numbered(index(step, "table_index"), outside))
            }
            other => Err(format!("DuckDB's plan has a step that is not understood, {other}")),
        }
    }

    /// The columns of the one step below.
    pub fn below(&mut self, step: &Value) -> Result<Columns, Lost> {
        match list(&step["children"]) {
            [only] => self.columns(only),
            _ => Err("DuckDB's plan is not understood".to_owned()),
        }
    }

    /// Columns that the step below gives, and further ones beside them.
    fn beside(&mut self, step: &Value, table: &str) -> Result<Columns, Lost> {
        let mut columns = self.below(step)?;
        if table == "unnest_index" {
            // A list makes as many rows as it has items.
            self.decide(&step["expressions"], &columns, How::Join);
        }
        let origins = self.expressions(&step["expressions"], &columns);
        columns.extend(numbered(index(step, table), origins));
        Ok(columns)
    }

    fn groups(&mut self, step: &Value) -> Result<Columns, Lost> {
        let below = self.below(step)?;
        self.decide(&step["groups"], &below, How::GroupBy);
        let groups = self.expressions(&step["groups"], &below);
        let aggregates = self.expressions(&step["expressions"], &below);
        let groupings = vec![Origin::default(); list(&step["grouping_functions"]).len()];
        let mut columns = numbered(index(step, "group_index"), groups);
        columns.extend(numbered(index(step, "aggregate_index"), aggregates));
        columns.extend(numbered(index(step, "groupings_index"), groupings));
        Ok(columns)
    }

    /// A table, or a function that gives one: of nothing, or of the rows below.
    fn table(&mut self, step: &Value) -> Result<Columns, Lost> {
        let below = match list(&step["children"]) {
            [] => Columns::new(),
            _ => self.below(step)?,
        };
        let all = Origin::all(below.iter().map(|column| &column.origin)).through(How::Transformation, false);
        // Of each row below it makes as many as it likes.
        self.rows.extend(&all.clone().through(How::Join, false).sources);
        let names = list(&step["names"]);
        let origin = |position: u64| match usize::try_from(position).ok().and_then(|at| names.get(at)) {
            Some(Value::String(name)) => self.tables.column(step, name).unwrap_or_else(|| all.clone()),
            // The number of a row.
            _ => Origin::default(),
        };
        let mut origins: Vec<(u64, Origin)> = list(&step["column_indexes"])
            .iter()
            .map(|column| column["index"].as_u64().unwrap_or(u64::MAX))
            .map(|position| (position, origin(position)))
            .collect();
        if let Some(kept) = step["projection_ids"].as_array().filter(|ids| !ids.is_empty()) {
            let at = |id: &Value| origins.get(usize::try_from(id.as_u64()?).ok()?).cloned();
            origins = kept.iter().filter_map(at).collect();
        }
        if origins.is_empty() {
            origins.push((0, Origin::default()));
        }
        let table = index(step, "table_index");
        let mut columns: Columns =
            origins.into_iter().map(|(column, origin)| Column { table, column, origin }).collect();
        for kept in list(&step["projected_input"]) {
            let column = kept.as_u64().and_then(|at| below.get(usize::try_from(at).ok()?));
            columns.push(column.ok_or("a table function is not understood")?.clone());
        }
        Ok(columns)
    }

    /// VALUES: each column of every row.
    fn listed(&mut self, step: &Value) -> Result<Columns, Lost> {
        let below = self.below(step)?;
        let mut columns: Vec<Origin> = vec![Origin::default(); list(&step["expr_types"]).len()];
        for row in list(&step["expressions"]) {
            for (column, origin) in columns.iter_mut().zip(self.expressions(row, &below)) {
                column.extend(&origin);
            }
        }
        Ok(numbered(index(step, "table_index"), columns))
    }

    fn join(&mut self, step: &Value) -> Result<Columns, Lost> {
        let (left, right) = sides(step)?;
        if step["delim_flipped"] == true {
            return Err("a correlated subquery is not understood".to_owned());
        }
        let mut left = self.columns(left)?;
        let is_correlated = step["type"] == "LOGICAL_DELIM_JOIN";
        if is_correlated {
            let outside = self.expressions(&step["duplicate_eliminated_columns"], &left);
            self.outside.push(outside);
        }
        let right = self.columns(right);
        if is_correlated {
            self.outside.pop();
        }
        let right = right?;
        let both: Columns = left.iter().chain(&right).cloned().collect();
        let mut condition = Origin::default();
        for one in list(&step["conditions"]) {
            // One that compares nothing stands as a whole at the left.
            let is_compared = !one["right"].is_null();
            condition.extend(&self.expression(&one["left"], if is_compared { &left } else { &both }));
            if is_compared {
                condition.extend(&self.expression(&one["right"], &right));
            }
        }
        for whole in [&step["condition"], &step["predicate"]].into_iter().filter(|whole| !whole.is_null()) {
            condition.extend(&self.expression(whole, &both));
        }
        match step["join_type"].as_str().unwrap_or_default() {
            // Whether there is a row at the right.
            "MARK" => {
                let origin = condition.through(How::Transformation, false);
                left.push(Column { table: index(step, "mark_index"), column: 0, origin });
                return Ok(left);
            }
            // A correlated subquery joins by the columns that it was given.
            "SINGLE" if is_correlated => {
                return Ok(left.into_iter().chain(right).collect());
            }
            _ => {}
        }
        self.rows.extend(&condition.through(How::Join, false).sources);
        match step["join_type"].as_str().unwrap_or_default() {
            "INNER" | "LEFT" | "RIGHT" | "FULL" | "OUTER" | "SINGLE" => {
                let left = projected(left, &step["left_projection_map"])?;
                Ok(left.into_iter().chain(projected(right, &step["right_projection_map"])?).collect())
            }
            "SEMI" | "ANTI" => Ok(left),
            "RIGHT_SEMI" | "RIGHT_ANTI" => Ok(right),
            other => Err(format!("DuckDB's plan has a join that is not understood, {other}")),
        }
    }

    fn set_operation(&mut self, step: &Value, kind: &str) -> Result<Columns, Lost> {
        let mut columns: Option<Vec<Origin>> = None;
        for child in list(&step["children"]) {
            let child = origins(self.columns(child)?);
            match &mut columns {
                None => columns = Some(child),
                Some(columns) if columns.len() != child.len() => {
                    return Err("a UNION is not understood".to_owned());
                }
                Some(columns) if kind == "LOGICAL_UNION" => {
                    columns.iter_mut().zip(&child).for_each(|(column, other)| column.extend(other));
                }
                // These rows only say which of the others stay.
                Some(_) => {
                    self.rows.extend(&Origin::all(&child).through(How::Filter, false).sources);
                }
            }
        }
        Ok(numbered(index(step, "table_index"), columns.unwrap_or_default()))
    }

    /// The first part, and what the second makes of it until nothing new comes.
    fn recursive(&mut self, step: &Value) -> Result<Columns, Lost> {
        let (first, again) = sides(step)?;
        let table = index(step, "table_index");
        let mut columns = origins(self.columns(first)?);
        for _ in 0..ROUNDS_MAX {
            self.shared.insert(table, columns.clone());
            let mut next = columns.clone();
            let more = origins(self.columns(again)?);
            next.iter_mut().zip(&more).for_each(|(column, other)| column.extend(other));
            if next == columns {
                return Ok(numbered(table, columns));
            }
            columns = next;
        }
        Err("a recursive query is not understood".to_owned())
    }

    /// Notes columns that decide on rows.
    fn decide(&mut self, expressions: &Value, below: &Columns, how: How) {
        for origin in self.expressions(expressions, below) {
            self.rows.extend(&origin.through(how, false).sources);
        }
    }
}

pub(super) fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

pub(super) fn index(step: &Value, field: &str) -> u64 {
    step[field].as_u64().unwrap_or(u64::MAX)
}

fn sides(step: &Value) -> Result<(&Value, &Value), Lost> {
    match list(&step["children"]) {
        [left, right] => Ok((left, right)),
        _ => Err("DuckDB's plan is not understood".to_owned()),
    }
}

fn numbered(table: u64, origins: Vec<Origin>) -> Columns {
    (0..).zip(origins).map(|(column, origin)| Column { table, column, origin }).collect()
}

pub(super) fn origins(columns: Columns) -> Vec<Origin> {
    columns.into_iter().map(|column| column.origin).collect()
}

/// The columns at the positions of a map; all where it is empty.
fn projected(columns: Columns, map: &Value) -> Result<Columns, Lost> {
    let positions = list(map);
    if positions.is_empty() {
        return Ok(columns);
    }
    let at = |position: &Value| columns.get(usize::try_from(position.as_u64()?).ok()?).cloned();
    positions.iter().map(|it| at(it).ok_or_else(|| "DuckDB's plan is not understood".to_owned())).collect()
}
