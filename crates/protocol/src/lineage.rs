use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Where the columns of one result come from: a step back, so from what its task was given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResultLineage {
    pub task: String,
    pub target: LineageTarget,
    /// In order. One column `*` stands for all where none is known.
    pub columns: Vec<ColumnLineage>,
    /// Columns that decide which rows there are, and in which order, by filters, joins and groups.
    pub rows: Sources,
}

/// What a task makes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum LineageTarget {
    /// The rows of a query, by the name of its output; also those that a load writes.
    Output(String),
    /// A table of a database that a statement of setup writes, by the statement's position.
    Table { connection: String, table: String, statement: usize },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColumnLineage {
    pub name: String,
    pub sources: Sources,
    /// Why its sources cannot be known. They are then every column that it may come from.
    pub unknown: Option<String>,
}

/// One column that a column comes from, and how.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ColumnSource {
    pub table: SourceTable,
    /// `*` for all columns of a table of which none is known.
    pub column: String,
    pub how: How,
    /// Whether its values went through a masking function on every way.
    pub masked: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum SourceTable {
    /// A table input of the workflow.
    Input(String),
    /// A result of an earlier task.
    Result { task: String, output: String },
    /// The table that an earlier task loads into.
    Loaded { task: String },
    /// A table of a database; its name as in [`plain_table`].
    Database { connection: String, table: String },
}

/// How a column counts for another, the least first. Those before `Identity` say which rows or which of several values
/// there are, and carry no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum How {
    Sort,
    Window,
    /// Of CASE, FILTER, IS NULL and counting.
    Conditional,
    GroupBy,
    Join,
    Filter,
    /// The value itself.
    Identity,
    /// A value of the same row that is computed of it.
    Transformation,
    /// A value of several rows that is computed of it.
    Aggregation,
}

impl How {
    /// Whether values flow.
    #[must_use]
    pub fn is_value(self) -> bool {
        self >= Self::Identity
    }
}

/// The name of a database's table without the schema that needs no name, in small letters, as DuckDB compares it.
#[must_use]
pub fn plain_table(name: &str) -> String {
    let lower = name.to_lowercase();
    let own = lower.strip_prefix("main.").or_else(|| lower.strip_prefix("public."));
    own.map_or_else(|| lower.clone(), str::to_owned)
}

/// Columns that something comes from: each once, in its strongest way. A value counts more than what only decides, a
/// value in the clear more than a masked one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<ColumnSource>", into = "Vec<ColumnSource>")]
pub struct Sources(BTreeMap<(SourceTable, String), (How, bool)>);

impl Sources {
    /// The column itself.
    #[must_use]
    pub fn column(table: SourceTable, column: &str) -> Self {
        Self(BTreeMap::from([((table, column.to_owned()), (How::Identity, false))]))
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = ColumnSource> {
        let source = |((table, column), (how, masked)): (&(SourceTable, String), &(How, bool))| ColumnSource {
            table: table.clone(),
            column: column.clone(),
            how: *how,
            masked: *masked,
        };
        self.0.iter().map(source)
    }

    /// What comes of these on a way that does `how` to their values, and masks them or not.
    #[must_use]
    pub fn through(mut self, how: How, masked: bool) -> Self {
        for (own, own_masked) in self.0.values_mut() {
            *own = match (own.is_value(), how.is_value()) {
                (true, true) => how.max(*own),
                (false, true) => *own,
                (_, false) => how,
            };
            *own_masked |= masked;
        }
        self
    }

    pub fn add(&mut self, source: ColumnSource) {
        let strength = |(how, masked): (How, bool)| (how.is_value(), !masked, how);
        let new = (source.how, source.masked);
        let known = self.0.entry((source.table, source.column)).or_insert(new);
        if strength(new) > strength(*known) {
            *known = new;
        }
    }

    pub fn extend(&mut self, others: &Self) {
        others.iter().for_each(|source| self.add(source));
    }

    /// Both.
    #[must_use]
    pub fn with(mut self, others: &Self) -> Self {
        self.extend(others);
        self
    }
}

impl From<Vec<ColumnSource>> for Sources {
    fn from(list: Vec<ColumnSource>) -> Self {
        let mut sources = Self::default();
        list.into_iter().for_each(|source| sources.add(source));
        sources
    }
}

impl From<Sources> for Vec<ColumnSource> {
    fn from(sources: Sources) -> Self {
        sources.iter().collect()
    }
}
