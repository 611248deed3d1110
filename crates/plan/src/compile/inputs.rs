use pintail_api as api;
use serde_json::Value as Json;

use super::{Compiler, check_table_source, quoted};
use crate::Rule;
use crate::data_type::Type;
use crate::model::{Contract, DataType, InputKind, InputValue, PlannedInput};
use crate::problem::{FieldPath, Problem, nearest};

impl Compiler<'_> {
    pub(super) fn compile_inputs(&mut self) -> Vec<PlannedInput> {
        let root = FieldPath::root().field("spec").field("inputs");
        let spec = &self.workflow.spec;
        spec.inputs
            .iter()
            .enumerate()
            .filter_map(|(index, input)| self.compile_input(input, &root.index(index)))
            .collect()
    }

    fn compile_input(&mut self, input: &api::Input, path: &FieldPath) -> Option<PlannedInput> {
        let optional = input.optional.unwrap_or_default();
        let (kind, default) = if input.data_type == "table" {
            if optional {
                let message =
                    "only a scalar can be left out; give a table input a `default`, for example `{ rows: [] }`";
                self.problem(Rule::InvalidContract, &path.field("optional"), message);
            }
            let contract = self.contract(input.columns.as_deref(), input.other_columns, path, true);
            if input.columns.is_none() && input.other_columns.is_some() {
                let message = "`otherColumns` needs `columns`: without a contract every column is kept";
                self.problem(Rule::InvalidContract, &path.field("otherColumns"), message);
            }
            let default =
                input.default.as_ref().and_then(|default| self.table_default(default, contract.as_ref(), path));
            (InputKind::Table { contract }, default)
        } else {
            let (kind, default) = self.scalar_input(input, path)?;
            (InputKind::Scalar(kind), default)
        };
        Some(PlannedInput { name: input.name.clone(), kind, default, optional })
    }

    fn scalar_input(&mut self, input: &api::Input, path: &FieldPath) -> Option<(DataType, Option<InputValue>)> {
        let data_type = match Type::parse(&input.data_type) {
            Ok(data_type) => data_type,
            Err(error) => {
                let near = nearest(&input.data_type, ["table"]).map(quoted);
                let problem = Problem::new(Rule::InvalidType, path.field("type"), error.message);
                self.report(problem.suggest(near.or(error.suggestion)));
                return None;
            }
        };
        for (name, is_there) in [("columns", input.columns.is_some()), ("otherColumns", input.other_columns.is_some())]
        {
            if is_there {
                let message = format!(
                    "`{name}` belongs to an input of type `table`, and `{}` is a {}",
                    input.name, input.data_type
                );
                self.problem(Rule::InvalidContract, &path.field(name), message);
            }
        }
        let default = input.default.as_ref().and_then(|default| {
            match scalar_problem(&data_type, &default.0, &path.field("default")) {
                Some(problem) => {
                    self.report(problem);
                    None
                }
                None if default.0.is_null() => {
                    let message = "a default of null says nothing; write `optional: true`";
                    self.problem(Rule::InvalidValue, &path.field("default"), message);
                    None
                }
                None => Some(InputValue::Scalar(default.0.clone())),
            }
        });
        Some((DataType(data_type.to_string()), default))
    }

    fn table_default(
        &mut self,
        default: &api::Binding,
        contract: Option<&Contract>,
        path: &FieldPath,
    ) -> Option<InputValue> {
        let path = path.field("default");
        match check_table_source(default, contract, &path) {
            Ok(source) => {
                self.check_source_in_place(&source, &path);
                Some(InputValue::Table(source))
            }
            Err(problems) => {
                self.problems.extend(problems);
                None
            }
        }
    }

    /// What of a source depends on the workflow's surroundings.
    fn check_source_in_place(&mut self, source: &api::TableSource, path: &FieldPath) {
        if let Some(name) = &source.connection {
            self.file_connection(name, &path.field("connection"), false);
        }
        let partition =
            source.partition.iter().flatten().map(|(key, value)| (path.field("partition").field(key), value));
        let file = source.path.iter().map(|text| (path.field("path"), text));
        for (path, text) in file.chain(partition) {
            self.template_before_start(text, &path);
        }
        if let Some(text) = &source.path {
            self.check_file_path(text, &path.field("path"));
        }
    }

    /// The contract of a table; `from_file` where columns may come from a file's name.
    pub(super) fn contract(
        &mut self,
        columns: Option<&[api::Column]>,
        other_columns: Option<api::OtherColumns>,
        path: &FieldPath,
        from_file: bool,
    ) -> Option<Contract> {
        let columns = columns?;
        let mut planned: Vec<api::Column> = Vec::with_capacity(columns.len());
        for (index, column) in columns.iter().enumerate() {
            let path = path.field("columns").index(index);
            if planned.iter().any(|other| other.name.eq_ignore_ascii_case(&column.name)) {
                let message =
                    format!("column `{}` stands twice; names are compared without regard to case", column.name);
                self.problem(Rule::InvalidContract, &path.field("name"), message);
            }
            if column.source.is_some() && !from_file {
                let message = "`source` belongs to a table that comes from files";
                self.problem(Rule::InvalidContract, &path.field("source"), message);
            }
            if column.sensitive.is_some() && !from_file {
                let message = "`sensitive` belongs to an input: a result is sensitive where its columns come from such";
                self.problem(Rule::InvalidContract, &path.field("sensitive"), message);
            }
            let mut column = column.clone();
            match Type::parse(&column.data_type) {
                Ok(data_type) => column.data_type = data_type.to_string(),
                Err(error) => {
                    let problem = Problem::new(Rule::InvalidType, path.field("type"), error.message);
                    self.report(problem.suggest(error.suggestion));
                }
            }
            planned.push(column);
        }
        Some(Contract { columns: planned, other_columns: other_columns.unwrap_or_default() })
    }
}

/// Whether a literal fits a scalar's type.
pub(crate) fn scalar_problem(data_type: &Type, value: &Json, path: &FieldPath) -> Option<Problem> {
    let is_expression = value.as_str().is_some_and(|text| text.starts_with("$(")) && *data_type != Type::Text;
    if is_expression {
        let message = "an input is bound to a value and takes no expression";
        return Some(Problem::new(Rule::InvalidValue, path.clone(), message));
    }
    data_type.check(value).err().map(|message| Problem::new(Rule::InvalidValue, path.clone(), message))
}
