//! Values that SQL sees as `$name`, as literals of their type.

use pintail_protocol::Parameter;
use serde_json::Value;

use crate::failure::TaskFailure;
use crate::sql;

/// A value as a constant expression of `data_type`. The JSON is as in [`Parameter`].
#[must_use]
pub fn literal(data_type: &str, value: &Value) -> String {
    let is = |names: &[&str]| names.iter().any(|name| data_type.eq_ignore_ascii_case(name));
    match value {
        Value::Null => format!("CAST(NULL AS {data_type})"),
        Value::String(hexadecimal) if is(&["BLOB", "BYTEA", "BINARY", "VARBINARY"]) => {
            format!("unhex({})", sql::text(hexadecimal))
        }
        _ if is(&["JSON"]) => format!("CAST({} AS JSON)", sql::text(&value.to_string())),
        Value::Array(_) | Value::Object(_) => {
            format!("CAST(CAST({} AS JSON) AS {data_type})", sql::text(&value.to_string()))
        }
        Value::String(text) => format!("CAST({} AS {data_type})", sql::text(text)),
        Value::Bool(_) | Value::Number(_) => format!("CAST({} AS {data_type})", sql::text(&value.to_string())),
    }
}

/// The arguments of an EXECUTE: each name that a statement has, bound by its type.
///
/// # Errors
/// `UnknownParameter`; `AnonymousParameter` for `?` and `$1`.
pub(crate) fn arguments<'a>(
    names: &[String],
    given: impl Iterator<Item = &'a Parameter> + Clone,
) -> Result<String, TaskFailure> {
    let bind = |name: &String| {
        if name.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(TaskFailure::permanent(
                "AnonymousParameter",
                "the statement has a parameter without a name (`?` or `$1`): parameters are named, such as `$min_quantity`",
            ));
        }
        let parameter = given.clone().find(|parameter| parameter.name.eq_ignore_ascii_case(name));
        let parameter = parameter.ok_or_else(|| unknown(name, given.clone()))?;
        Ok(format!("{} := {}", sql::identifier(name), literal(&parameter.data_type, &parameter.value)))
    };
    Ok(names.iter().map(bind).collect::<Result<Vec<_>, _>>()?.join(", "))
}

fn unknown<'a>(name: &str, given: impl Iterator<Item = &'a Parameter>) -> TaskFailure {
    let mut near: Vec<_> = given.map(|p| (strsim::jaro_winkler(&p.name, name), p.name.as_str())).collect();
    near.sort_by(|a, b| b.0.total_cmp(&a.0));
    let near: Vec<_> = near.into_iter().take(3).map(|(_, name)| format!("${name}")).collect();
    let help = if near.is_empty() {
        "the task uses no scalar: name it under `uses` or `with`".to_owned()
    } else {
        format!("did you mean {}? Scalars are named under `uses` or `with`", near.join(", "))
    };
    TaskFailure::permanent("UnknownParameter", format!("nothing gives the parameter ${name}: {help}"))
}
