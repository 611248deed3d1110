//! What a run's inputs are bound to, and how that is pinned in `status.resolved`.

use pintail_api as api;
use serde_json::Value;

/// One input as it is bound for the whole of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct BoundInput {
    pub name: String,
    pub source: BoundSource,
}

#[derive(Clone, Debug, PartialEq)]
pub enum BoundSource {
    Scalar(Value),
    /// Files or rows, as written.
    Table(Box<api::TableSource>),
    /// One version of a dataset.
    Artifact {
        name: String,
        uri: String,
        bytes: u64,
        digest: String,
    },
}

impl BoundSource {
    /// The version that an Artifact is.
    #[must_use]
    pub fn of_artifact(name: &str, spec: &api::ArtifactSpec) -> Self {
        Self::Artifact {
            name: name.to_owned(),
            uri: spec.uri.clone(),
            bytes: u64::try_from(spec.bytes).unwrap_or(0),
            digest: spec.digest.clone(),
        }
    }
}

/// The entry of `status.resolved.inputs`.
#[must_use]
pub fn resolved_from_bound(input: &BoundInput) -> api::ResolvedInput {
    let mut resolved = api::ResolvedInput { name: input.name.clone(), ..api::ResolvedInput::default() };
    match &input.source {
        BoundSource::Scalar(value) => resolved.value = Some(api::Binding(value.clone())),
        BoundSource::Table(source) => resolved.source = Some((**source).clone()),
        BoundSource::Artifact { name, uri, bytes, digest } => {
            resolved.artifact = Some(name.clone());
            resolved.uri = Some(uri.clone());
            resolved.digest = Some(digest.clone());
            resolved.bytes = i64::try_from(*bytes).ok();
        }
    }
    resolved
}

/// The bound input that an entry of `status.resolved.inputs` pins; `None` for an entry that no build of ours wrote.
#[must_use]
pub fn bound_from_resolved(resolved: &api::ResolvedInput) -> Option<BoundInput> {
    let source = match resolved {
        api::ResolvedInput { artifact: Some(name), uri: Some(uri), digest: Some(digest), bytes, .. } => {
            BoundSource::Artifact {
                name: name.clone(),
                uri: uri.clone(),
                bytes: u64::try_from((*bytes)?).ok()?,
                digest: digest.clone(),
            }
        }
        api::ResolvedInput { source: Some(source), .. } => BoundSource::Table(Box::new(source.clone())),
        api::ResolvedInput { value, .. } => BoundSource::Scalar(value.clone().map_or(Value::Null, |binding| binding.0)),
    };
    Some(BoundInput { name: resolved.name.clone(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_pinned_is_what_was_bound() {
        let sources = [
            BoundSource::Scalar(Value::Null),
            BoundSource::Scalar(serde_json::json!("2026-11-20")),
            BoundSource::Table(Box::new(api::TableSource {
                uri: Some("/data/x.csv".to_owned()),
                ..Default::default()
            })),
            BoundSource::Artifact {
                name: "recent-7k2xq9".to_owned(),
                uri: "/store/default/artifacts/recent/x/result.parquet".to_owned(),
                bytes: 812,
                digest: "blake3:00".to_owned(),
            },
        ];
        for source in sources {
            let bound = BoundInput { name: "recent".to_owned(), source };
            let through_json = serde_json::to_string(&resolved_from_bound(&bound)).unwrap();
            let resolved: api::ResolvedInput = serde_json::from_str(&through_json).unwrap();
            assert_eq!(bound_from_resolved(&resolved), Some(bound));
        }
    }
}
