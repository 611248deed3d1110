//! The schemas of the kinds, taken from their CustomResourceDefinitions: what the API server checks is checked here.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use cel::{Context, Env, IdedExpr, Value};
use pintail_api as api;
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value as Json};

/// One node of a structural schema.
#[derive(Clone, Debug, Default)]
pub(super) struct Schema {
    pub shape: Shape,
    pub rules: Vec<Arc<RuleOfSchema>>,
}

#[derive(Clone, Debug, Default)]
pub(super) enum Shape {
    /// Anything at all.
    #[default]
    Any,
    Text {
        length_min: u64,
        length_max: u64,
        /// The only texts that are allowed; none for any.
        words: Vec<String>,
    },
    Integer {
        min: i64,
        max: i64,
    },
    Number,
    Boolean,
    List {
        item: Arc<Schema>,
        length_min: u64,
        length_max: u64,
    },
    Object {
        fields: BTreeMap<String, Schema>,
        required: Vec<String>,
        /// The schema of the values of a map; a map has no `fields`.
        values: Option<Arc<Schema>>,
        length_min: u64,
        length_max: u64,
    },
}

/// A rule in CEL between the fields of an object, `x-kubernetes-validations`.
#[derive(Debug)]
pub(super) struct RuleOfSchema {
    tree: IdedExpr,
    pub message: String,
    /// The fields of the object that the rule reads, and whether only for their presence; none where it reads the
    /// object as a whole.
    fields: Option<BTreeMap<String, bool>>,
}

/// What derives the schema of a CustomResourceDefinition, made once a kind: most files have one or two kinds.
macro_rules! schemas {
    ($($kind:literal => $type:ty),*) => {
        /// The schema of a kind of `pintail.dev/v1alpha1`.
        pub(super) fn of_kind(kind: &str) -> Option<&'static Schema> {
            match kind {
                $($kind => {
                    static SCHEMA: LazyLock<Schema> = LazyLock::new(derive::<$type>);
                    Some(&SCHEMA)
                })*
                _ => None,
            }
        }

        pub(super) fn kinds() -> impl Iterator<Item = &'static str> {
            [$($kind),*].into_iter()
        }
    };
}

schemas! {
    "Workflow" => api::Workflow,
    "Connection" => api::Connection,
    "Execution" => api::Execution,
    "Artifact" => api::Artifact,
    "LaunchPlan" => api::LaunchPlan,
    "WorkflowTest" => api::WorkflowTest
}

/// The CustomResourceDefinition itself would do as well, and takes ten times as long to make; a test compares them.
fn derive<T: JsonSchema>() -> Schema {
    let settings = SchemaSettings::openapi3().with(|settings| settings.inline_subschemas = true);
    read(&settings.into_generator().into_root_schema_for::<T>().into())
}

static TABLE_SOURCE: LazyLock<Schema> = LazyLock::new(derive::<api::TableSource>);

static ENVIRONMENT: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));

pub(super) fn table_source() -> &'static Schema {
    &TABLE_SOURCE
}

fn read(json: &Json) -> Schema {
    Schema { shape: shape(json), rules: rules(json) }
}

fn shape(json: &Json) -> Shape {
    let number = |key: &str| json.get(key).and_then(Json::as_f64);
    let length = |key: &str, otherwise: u64| json.get(key).and_then(Json::as_u64).unwrap_or(otherwise);
    // `anyOf: [ X, null ]` is how an optional type is written.
    if let Some(options) = json.get("anyOf").or_else(|| json.get("oneOf")).and_then(Json::as_array) {
        return alternatives(options);
    }
    let types = match json.get("type") {
        Some(Json::String(one)) => one.as_str(),
        Some(Json::Array(several)) => {
            several.iter().filter_map(Json::as_str).find(|name| *name != "null").unwrap_or_default()
        }
        _ if json.get("enum").is_some() => "string",
        _ => return Shape::Any,
    };
    match types {
        "string" => Shape::Text {
            length_min: length("minLength", 0),
            length_max: length("maxLength", u64::MAX),
            words: texts(json.get("enum")),
        },
        "integer" => {
            #[allow(clippy::cast_possible_truncation, reason = "a bound of a schema is a small whole number")]
            let bound = |key: &str, otherwise: i64| number(key).map_or(otherwise, |bound| bound as i64);
            let is_short = json.get("format").and_then(Json::as_str) == Some("int32");
            let (least, most) =
                if is_short { (i64::from(i32::MIN), i64::from(i32::MAX)) } else { (i64::MIN, i64::MAX) };
            Shape::Integer { min: bound("minimum", least).max(least), max: bound("maximum", most).min(most) }
        }
        "number" => Shape::Number,
        "boolean" => Shape::Boolean,
        "array" => Shape::List {
            item: Arc::new(json.get("items").map(read).unwrap_or_default()),
            length_min: length("minItems", 0),
            length_max: length("maxItems", u64::MAX),
        },
        "object" => object(json),
        _ => Shape::Any,
    }
}

fn object(json: &Json) -> Shape {
    let length = |key: &str, otherwise: u64| json.get(key).and_then(Json::as_u64).unwrap_or(otherwise);
    let properties = json.get("properties").and_then(Json::as_object);
    let values = json.get("additionalProperties").filter(|values| values.is_object()).map(read);
    // A map of unknown values.
    let is_bounded = json.get("maxProperties").is_some();
    let values = values.or_else(|| is_bounded.then(Schema::default)).map(Arc::new);
    if properties.is_none() && values.is_none() {
        return Shape::Any;
    }
    let mut required = texts(json.get("required"));
    required.sort_unstable();
    Shape::Object {
        fields: properties.into_iter().flatten().map(|(name, field)| (name.clone(), read(field))).collect(),
        required,
        values,
        length_min: length("minProperties", 0),
        length_max: length("maxProperties", u64::MAX),
    }
}

/// One alternative that is not null; words of several enumerations are joined.
fn alternatives(options: &[Json]) -> Shape {
    let is_null = |option: &Json| option.get("type") == Some(&Json::from("null")) || option.get("nullable").is_some();
    let mut shapes = options.iter().filter(|option| !is_null(option)).map(|option| match option.get("const") {
        Some(Json::String(word)) => Shape::Text { length_min: 0, length_max: u64::MAX, words: vec![word.clone()] },
        _ => shape(option),
    });
    let mut first = shapes.next().unwrap_or_default();
    for other in shapes {
        match (&mut first, other) {
            (Shape::Text { words, .. }, Shape::Text { words: more, .. }) => words.extend(more),
            _ => return Shape::Any,
        }
    }
    first
}

fn texts(json: Option<&Json>) -> Vec<String> {
    json.and_then(Json::as_array).into_iter().flatten().filter_map(Json::as_str).map(str::to_owned).collect()
}

/// Rules that speak of an object alone; `oldSelf` is there only where one object takes another's place.
fn rules(json: &Json) -> Vec<Arc<RuleOfSchema>> {
    let list = json.get("x-kubernetes-validations").and_then(Json::as_array);
    let rule = |rule: &Json| {
        let text = rule.get("rule")?.as_str().filter(|text| !text.contains("oldSelf"))?;
        let message = rule.get("message").and_then(Json::as_str).unwrap_or(text).to_owned();
        let tree = ENVIRONMENT.parser().parse(text).ok()?;
        Some(Arc::new(RuleOfSchema { tree, message, fields: fields_read(text) }))
    };
    list.into_iter().flatten().filter_map(rule).collect()
}

/// The names behind each `self.`, and whether each stands in `has(…)` only; none where `self` stands alone.
fn fields_read(rule: &str) -> Option<BTreeMap<String, bool>> {
    let is_part = |char: char| char.is_ascii_alphanumeric() || char == '_';
    let mut fields = BTreeMap::new();
    for (at, _) in rule.match_indices("self") {
        let rest = rule[at + "self".len()..].strip_prefix('.')?;
        let name = &rest[..rest.find(|char| !is_part(char)).unwrap_or(rest.len())];
        let in_has = rule[..at].ends_with("has(") && rest[name.len()..].starts_with(')');
        *fields.entry(name.to_owned()).or_insert(true) &= in_has;
    }
    Some(fields)
}

impl RuleOfSchema {
    /// Whether the object keeps the rule. One that cannot be evaluated has other problems, which are reported.
    pub fn holds(&self, object: &Json) -> bool {
        let mut context = Context::with_env(Arc::clone(&ENVIRONMENT));
        // A task has long texts that its rules do not read.
        let read: Option<Map<String, Json>> = self.fields.as_ref().map(|fields| {
            let read = |(name, in_has): (&String, &bool)| {
                let value = object.get(name)?;
                Some((name.clone(), if *in_has { Json::Null } else { value.clone() }))
            };
            fields.iter().filter_map(read).collect()
        });
        let added = match read {
            Some(fields) => context.add_variable("self", fields),
            None => context.add_variable("self", object),
        };
        if added.is_err() {
            return true;
        }
        !matches!(Value::resolve(&self.tree, &context), Ok(Value::Bool(false)))
    }
}

impl Schema {
    pub fn field(&self, name: &str) -> Option<&Self> {
        match &self.shape {
            Shape::Object { fields, .. } => fields.get(name),
            _ => None,
        }
    }

    pub fn text() -> Self {
        Self { shape: Shape::Text { length_min: 0, length_max: u64::MAX, words: Vec::new() }, rules: Vec::new() }
    }

    pub fn map_of_texts() -> Self {
        let values = Some(Arc::new(Self::text()));
        let shape = Shape::Object {
            fields: BTreeMap::new(),
            required: Vec::new(),
            values,
            length_min: 0,
            length_max: u64::MAX,
        };
        Self { shape, rules: Vec::new() }
    }

    /// Of `metadata`, which the API server knows by itself and no CRD describes.
    pub fn metadata() -> &'static Self {
        static METADATA: LazyLock<Schema> = LazyLock::new(|| {
            // Written by a cluster; an object that was read from one may be applied again.
            const WRITTEN: [&str; 8] = [
                "creationTimestamp",
                "deletionGracePeriodSeconds",
                "deletionTimestamp",
                "finalizers",
                "generation",
                "managedFields",
                "ownerReferences",
                "resourceVersion",
            ];
            let mut fields: BTreeMap<String, Schema> =
                WRITTEN.iter().map(|name| ((*name).to_owned(), Schema::default())).collect();
            for name in ["name", "namespace", "uid"] {
                fields.insert(name.to_owned(), Schema::text());
            }
            for name in ["labels", "annotations"] {
                fields.insert(name.to_owned(), Schema::map_of_texts());
            }
            let required = vec!["name".to_owned()];
            Schema {
                shape: Shape::Object { fields, required, values: None, length_min: 0, length_max: u64::MAX },
                rules: Vec::new(),
            }
        });
        &METADATA
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The API server checks by the CRD; if what is checked here differs, a manifest is right in one place only.
    #[test]
    fn the_schemas_are_those_of_the_custom_resource_definitions() {
        for definition in api::definitions() {
            let kind = definition.spec.names.kind.clone();
            let schema = &definition.spec.versions[0].schema.as_ref().expect("a schema").open_api_v3_schema;
            let of_definition = read(&serde_json::to_value(schema).expect("JSON"));
            let own = of_kind(&kind).expect("a kind");
            for field in ["spec", "status"] {
                let describe = |schema: &Schema| format!("{:#?}", schema.field(field));
                assert_eq!(describe(own), describe(&of_definition), "{kind}");
            }
            assert_eq!(format!("{:?}", own.rules), format!("{:?}", of_definition.rules), "{kind}");
        }
    }
}
