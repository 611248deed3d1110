use crate::Rule;
use crate::problem::{FieldPath, Problem};

pub(crate) fn check_json<T: serde::de::DeserializeOwned>(
    value: &serde_json::Value,
    path: &FieldPath,
) -> Result<T, Vec<Problem>> {
    serde_json::from_value(value.clone())
        .map_err(|error| vec![Problem::new(Rule::WrongType, path.clone(), error.to_string())])
}
