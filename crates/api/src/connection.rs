use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Condition, SecretValue};

/// Where data or a service is, with the credentials. Its name with `_` for `-` is its name in SQL.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "pintail.dev",
    version = "v1alpha1",
    kind = "Connection",
    plural = "connections",
    shortname = "ptcn",
    category = "pintail",
    namespaced,
    status = "ConnectionStatus",
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Type", type_ = "string", json_path = ".status.type"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason", priority = 1),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].message", priority = 1),
    validation = ("size(self.metadata.name) <= 52", "metadata.name has at most 52 characters")
)]
#[x_kube(validation = (
    "[has(self.folder), has(self.s3), has(self.http), has(self.duckdb), has(self.postgres), has(self.smtp), has(self.webhook), has(self.secrets)].filter(x, x).size() == 1",
    "set exactly one of folder, s3, http, duckdb, postgres, smtp, webhook, secrets"
), validation = (
    "!has(self.tables) || has(self.duckdb) || has(self.postgres)",
    "tables belong to duckdb and postgres"
))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConnectionSpec {
    /// Files below a folder of this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<FolderConnection>,
    /// Objects in a bucket of Amazon S3 or of any service with its protocol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub s3: Option<S3Connection>,
    /// Files below a URL; read only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpConnection>,
    /// One DuckDB database file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duckdb: Option<DuckDbConnection>,
    /// A PostgreSQL database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub postgres: Option<PostgresConnection>,
    /// A mail server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub smtp: Option<SmtpConnection>,
    /// A URL that takes a POST of JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<WebhookConnection>,
    /// Named secret values that become SQL parameters of the tasks that read the connection: the value `pepper` of the
    /// connection `keys` is `$keys_pepper`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minProperties" = 1, "maxProperties" = 32))]
    pub secrets: Option<BTreeMap<String, SecretValue>>,
    /// Of a database: its tables, which SQL is checked against. Left out: SQL that reads the database is not checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 500))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub tables: Option<Vec<ConnectionTable>>,
}

/// A table of a database, as far as SQL is checked against it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConnectionTable {
    /// `table` or `schema.table`.
    #[schemars(length(min = 1, max = 255))]
    pub name: String,
    /// All its columns.
    #[schemars(length(min = 1, max = 1000))]
    pub columns: Vec<TableColumn>,
}

/// A column of a table of a database.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TableColumn {
    /// Name of the column.
    #[schemars(length(min = 1, max = 255))]
    pub name: String,
    /// DuckDB type, as DuckDB sees the column.
    #[serde(rename = "type")]
    #[schemars(length(min = 1, max = 1024))]
    pub data_type: String,
    /// Whether the values are sensitive. They leave by a published dataset, an export, a load, a report or a message only
    /// through a masking function or where `releases` names the column.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sensitive: Option<bool>,
}

/// Files below a folder of this machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FolderConnection {
    /// The folder, absolute or relative to the manifest's folder.
    #[schemars(length(min = 1, max = 1024))]
    pub path: String,
}

/// Objects in a bucket.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = (
    "has(self.accessKeyIdFrom) == has(self.secretAccessKeyFrom)",
    "set both of accessKeyIdFrom and secretAccessKeyFrom, or neither"
))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct S3Connection {
    /// Name of the bucket.
    #[schemars(length(min = 3, max = 63))]
    pub bucket: String,
    /// Prefix that every path is below; empty for the whole bucket.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 512))]
    pub prefix: String,
    /// Address of the service, `http://host:port` or `https://host`. Left out: Amazon S3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub endpoint: Option<String>,
    /// Region; `us-east-1` if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub region: Option<String>,
    /// Whether the bucket stands in the path of the URL instead of its host name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_style: Option<bool>,
    /// Whether requests are sent without a signature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anonymous: Option<bool>,
    /// Access key. Left out together with `secretAccessKeyFrom`: the environment's credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_key_id_from: Option<SecretValue>,
    /// Secret key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_access_key_from: Option<SecretValue>,
}

/// Files below a URL.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpConnection {
    /// `http://…` or `https://…`, that every path is below.
    #[schemars(length(min = 8, max = 1024))]
    pub url: String,
    /// Value of the header `Authorization: Bearer`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bearer_token_from: Option<SecretValue>,
}

/// One DuckDB database file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DuckDbConnection {
    /// The file, absolute or relative to the manifest's folder; with `volumeClaim`, relative to the volume. A task that
    /// writes creates it where it is missing.
    #[schemars(length(min = 1, max = 1024))]
    pub path: String,
    /// PersistentVolumeClaim of the same namespace that holds the file. Only on a cluster, where it is the only place
    /// for a file that lasts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub volume_claim: Option<String>,
    /// How long a task waits for a file that another process has locked, `5m` if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub busy_timeout: Option<String>,
}

/// A PostgreSQL database.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PostgresConnection {
    /// Host name or address.
    #[schemars(length(min = 1, max = 253))]
    pub host: String,
    /// Port; 5432 if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<i32>,
    /// Name of the database.
    #[schemars(length(min = 1, max = 63))]
    pub database: String,
    /// User.
    #[schemars(length(min = 1, max = 63))]
    pub user: String,
    /// Password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_from: Option<SecretValue>,
    /// How the connection is encrypted, libpq's `sslmode`; `Prefer` if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssl_mode: Option<SslMode>,
}

/// libpq's `sslmode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SslMode {
    /// Never encrypted.
    Disable,
    /// Encrypted where the server can.
    Prefer,
    /// Encrypted, certificate not checked.
    Require,
    /// Encrypted, certificate and host name checked.
    VerifyFull,
}

/// A mail server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = (
    "has(self.usernameFrom) == has(self.passwordFrom)",
    "set both of usernameFrom and passwordFrom, or neither"
))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SmtpConnection {
    /// Host name or address.
    #[schemars(length(min = 1, max = 253))]
    pub host: String,
    /// Port; 587 if left out, 465 with `encryption: Tls`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<i32>,
    /// How the connection is encrypted; `StartTls` if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption: Option<SmtpEncryption>,
    /// Sender's address.
    #[schemars(length(min = 3, max = 320))]
    pub from: String,
    /// User name. Left out: no authentication.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username_from: Option<SecretValue>,
    /// Password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_from: Option<SecretValue>,
}

/// How mail travels to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SmtpEncryption {
    /// Not encrypted.
    None,
    /// Encrypted after STARTTLS; refused where the server cannot.
    StartTls,
    /// Encrypted from the start.
    Tls,
}

/// A URL that takes a POST of JSON, or the key of those who send events here.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = (
    "!(has(self.url) && has(self.urlFrom)) && (has(self.url) || has(self.urlFrom) || has(self.signingKeyFrom))",
    "set exactly one of url and urlFrom, or signingKeyFrom alone"
))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WebhookConnection {
    /// The URL. Exactly one of `url` and `urlFrom`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 8, max = 2048))]
    pub url: Option<String>,
    /// The URL, where it holds a secret itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url_from: Option<SecretValue>,
    /// Value of the header `Authorization: Bearer`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bearer_token_from: Option<SecretValue>,
    /// Key that signs requests (Standard Webhooks): `whsec_` and base64, or the key itself. Requests that go out are
    /// signed with it, and events that come in must be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signing_key_from: Option<SecretValue>,
}

/// What is known of a Connection.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionStatus {
    /// Generation of the spec that this speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub conditions: Vec<Condition>,
    /// What it is: `s3`, `duckdb`, ….
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub kind: Option<String>,
}
