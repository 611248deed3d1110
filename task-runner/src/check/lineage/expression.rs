//! What a bound expression comes from.

use pintail_protocol::How;
use serde_json::Value;

use super::plan::{Columns, Origin, Walk, index, list};

impl Walk<'_> {
    /// Of each expression of a list; of ORDER BY, of each of its terms.
    pub fn expressions(&self, expressions: &Value, below: &Columns) -> Vec<Origin> {
        let terms = expressions.get("orders").unwrap_or(expressions);
        list(terms).iter().map(|one| self.expression(one.get("expression").unwrap_or(one), below)).collect()
    }

    pub fn expression(&self, expression: &Value, below: &Columns) -> Origin {
        let all = |parts: &Value, how: How| self.all(parts, below).through(how, false);
        let name = expression["name"].as_str().unwrap_or_default();
        match expression["expression_class"].as_str().unwrap_or_default() {
            "BOUND_REF" => {
                let column = usize::try_from(index(expression, "index")).ok().and_then(|at| below.get(at));
                column.map_or_else(|| Origin::unknown("DuckDB's plan is not understood"), |it| it.origin.clone())
            }
            "BOUND_COLUMN_REF" => {
                let binding = &expression["binding"];
                let (table, column) = (index(binding, "table_index"), index(binding, "column_index"));
                let found = below.iter().find(|it| it.table == table && it.column == column);
                found.map_or_else(|| Origin::unknown("DuckDB's plan is not understood"), |it| it.origin.clone())
            }
            "BOUND_CONSTANT" => Origin::default(),
            "BOUND_CAST" => match self.tables.marked(&expression["child"]) {
                Some(sources) => Origin { sources, unknown: None },
                None => self.expression(&expression["child"], below).through(How::Transformation, false),
            },
            "BOUND_UNNEST" => self.expression(&expression["child"], below).through(How::Transformation, false),
            "BOUND_FUNCTION" => {
                let is_masking = self.masking.iter().any(|masking| masking.eq_ignore_ascii_case(name));
                self.all(&expression["children"], below).through(How::Transformation, is_masking)
            }
            "BOUND_COMPARISON" => {
                let mut both = self.expression(&expression["left"], below);
                both.extend(&self.expression(&expression["right"], below));
                both.through(How::Transformation, false)
            }
            "BOUND_BETWEEN" => {
                let mut parts = Origin::default();
                for part in ["input", "lower", "upper"] {
                    parts.extend(&self.expression(&expression[part], below));
                }
                parts.through(How::Transformation, false)
            }
            "BOUND_CONJUNCTION" => all(&expression["children"], How::Transformation),
            "BOUND_OPERATOR" => match expression["type"].as_str() {
                Some("OPERATOR_IS_NULL" | "OPERATOR_IS_NOT_NULL") => all(&expression["children"], How::Conditional),
                _ => all(&expression["children"], How::Transformation),
            },
            "BOUND_CASE" => match self.tables.marked(expression) {
                Some(sources) => Origin { sources, unknown: None },
                None => self.case(expression, below),
            },
            "BOUND_AGGREGATE" => {
                let mut origin = self.aggregate(name, &expression["children"], below);
                let order = self.expressions(&expression["order_bys"], below);
                let order = order.into_iter().map(|term| term.through(How::Sort, false));
                let filter = self.optional(&expression["filter"], below).through(How::Conditional, false);
                order.chain([filter]).for_each(|decides| origin.extend(&decides));
                origin
            }
            "BOUND_WINDOW" => self.window(expression, name, below),
            other => Origin::unknown(&format!("DuckDB's plan has an expression that is not understood, {other}")),
        }
    }

    fn all(&self, parts: &Value, below: &Columns) -> Origin {
        let mut all = Origin::default();
        self.expressions(parts, below).iter().for_each(|part| all.extend(part));
        all
    }

    fn optional(&self, expression: &Value, below: &Columns) -> Origin {
        if expression.is_null() { Origin::default() } else { self.expression(expression, below) }
    }

    fn case(&self, expression: &Value, below: &Columns) -> Origin {
        let mut origin = self.optional(&expression["else_expr"], below);
        for check in list(&expression["case_checks"]) {
            origin.extend(&self.expression(&check["then_expr"], below));
        }
        let mut origin = origin.through(How::Transformation, false);
        for check in list(&expression["case_checks"]) {
            origin.extend(&self.expression(&check["when_expr"], below).through(How::Conditional, false));
        }
        origin
    }

    fn aggregate(&self, name: &str, arguments: &Value, below: &Columns) -> Origin {
        let how = match name {
            "count" | "count_star" => How::Conditional,
            // Of one row: what a scalar subquery has.
            "first" => How::Transformation,
            _ => How::Aggregation,
        };
        self.all(arguments, below).through(how, false)
    }

    fn window(&self, expression: &Value, name: &str, below: &Columns) -> Origin {
        let mut origin = match expression["type"].as_str() {
            Some("WINDOW_AGGREGATE") => self.aggregate(name, &expression["children"], below),
            _ => self.all(&expression["children"], below).through(How::Transformation, false),
        };
        origin.extend(&self.optional(&expression["default_expr"], below).through(How::Transformation, false));
        for part in ["partitions", "orders", "arg_orders"] {
            origin.extend(&self.all(&expression[part], below).through(How::Window, false));
        }
        for part in ["filters", "filter_expr", "start_expr", "end_expr", "offset_expr"] {
            origin.extend(&self.optional(&expression[part], below).through(How::Window, false));
        }
        origin
    }
}
