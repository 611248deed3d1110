//! Which connection may be used for what.

use std::sync::Arc;

use pintail_api as api;

use super::task::Draft;
use super::{Compiler, names, quoted};
use crate::Rule;
use crate::data_type::Type;
use crate::problem::{FieldPath, Problem, nearest};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConnectionKind {
    Folder,
    S3,
    Http,
    DuckDb,
    Postgres,
    Smtp,
    Webhook,
    Secrets,
    /// Without exactly one kind, which the structure's rules report.
    Unclear,
}

impl ConnectionKind {
    fn of(connection: &api::Connection) -> Self {
        let spec = &connection.spec;
        let kinds = [
            (spec.folder.is_some(), Self::Folder),
            (spec.s3.is_some(), Self::S3),
            (spec.http.is_some(), Self::Http),
            (spec.duckdb.is_some(), Self::DuckDb),
            (spec.postgres.is_some(), Self::Postgres),
            (spec.smtp.is_some(), Self::Smtp),
            (spec.webhook.is_some(), Self::Webhook),
            (spec.secrets.is_some(), Self::Secrets),
        ];
        let mut given = kinds.into_iter().filter(|(is_there, _)| *is_there).map(|(_, kind)| kind);
        match (given.next(), given.next()) {
            (Some(kind), None) => kind,
            _ => Self::Unclear,
        }
    }

    fn describe(self) -> &'static str {
        match self {
            Self::Folder => "a folder",
            Self::S3 => "a bucket",
            Self::Http => "a web address",
            Self::DuckDb => "a DuckDB file",
            Self::Postgres => "a PostgreSQL database",
            Self::Smtp => "a mail server",
            Self::Webhook => "a webhook",
            Self::Secrets => "a set of secrets",
            Self::Unclear => "of no clear kind",
        }
    }

    fn has_files(self) -> bool {
        matches!(self, Self::Folder | Self::S3 | Self::Http)
    }
}

impl<'a> Compiler<'a> {
    /// The kind of a connection; reports a name that nothing has.
    pub(super) fn connection(&mut self, name: &str, path: &FieldPath) -> Option<ConnectionKind> {
        if let Some(connection) = self.surroundings.connections.get(name) {
            return Some(ConnectionKind::of(connection));
        }
        let known = self.surroundings.connections.keys().map(String::as_str);
        let sql_name = name.replace('-', "_");
        let suggestion = if sql_name != name && self.surroundings.connections.contains_key(&sql_name) {
            Some(format!("`{sql_name}`, its name in SQL"))
        } else {
            nearest(name, known).map(quoted)
        };
        let name = crate::problem::excerpt(name);
        let message = format!("there is no connection `{name}`: its manifest is needed, too");
        self.report(Problem::new(Rule::UnknownConnection, path.clone(), message).suggest(suggestion));
        None
    }

    pub(super) fn check_connections(&mut self, draft: &mut Draft<'a>) {
        let task = draft.task;
        for (list, names, writes) in [("reads", &task.reads, false), ("writes", &task.writes, true)] {
            let path = draft.path.field(list);
            if task.duckdb.is_none() && !names.is_empty() {
                let message = format!("`{list}` attaches databases for SQL, and this is no task of kind `duckdb`");
                self.problem(Rule::NothingUsesIt, &path, message);
                continue;
            }
            for (position, name) in names.iter().enumerate() {
                let path = path.index(position);
                if names[..position].contains(name) {
                    self.problem(Rule::DuplicateName, &path, format!("`{name}` stands in `{list}` twice"));
                }
                self.problems.extend(names::check(name, "connection", &path).filter(|_| {
                    // An unknown one is reported as such.
                    self.surroundings.connections.contains_key(name)
                }));
                let Some(kind) = self.connection(name, &path) else { continue };
                self.check_attached(name, kind, writes, &path);
                draft.touch(name, writes);
            }
        }
        self.check_same_file(draft);
    }

    fn check_attached(&mut self, name: &str, kind: ConnectionKind, writes: bool, path: &FieldPath) {
        let fits = match kind {
            ConnectionKind::DuckDb | ConnectionKind::Postgres | ConnectionKind::Unclear => true,
            ConnectionKind::Secrets => !writes,
            _ => false,
        };
        if fits {
            return;
        }
        let (list, takes) = if writes { ("writes", "databases") } else { ("reads", "databases and secrets") };
        let message = format!("`{name}` is {}, and `{list}` takes {takes}", kind.describe());
        let meant = match kind {
            _ if kind.has_files() && !writes => Some(format!(
                "an input: `{{ name: files, type: table, default: {{ connection: {name}, path: \"*.csv\" }} }}`, then `uses: [files]`"
            )),
            _ if kind.has_files() => {
                Some(format!("a task `export: {{ table: …, to: {{ connection: {name}, path: … }} }}`"))
            }
            ConnectionKind::Smtp | ConnectionKind::Webhook => {
                Some(format!("a task `notify: {{ connection: {name}, … }}`"))
            }
            ConnectionKind::Secrets => Some(format!("`reads: [{name}]`")),
            _ => None,
        };
        self.report(Problem::new(Rule::UnfitConnection, path.clone(), message).suggest(meant));
    }

    /// The values of `secrets` are parameters of the task, beside those that it names itself.
    pub(super) fn check_secret_parameters(&mut self, draft: &Draft<'a>) {
        for (position, name) in draft.task.reads.iter().enumerate() {
            let values =
                self.surroundings.connections.get(name).and_then(|connection| connection.spec.secrets.as_ref());
            let clash = values.into_iter().flat_map(|values| values.keys()).find_map(|value| {
                let parameter = format!("{name}_{value}");
                draft.binding(&parameter).is_some().then_some(parameter)
            });
            if let Some(parameter) = clash {
                let message =
                    format!("`{name}` brings the parameter `${parameter}`, and the task has a `{parameter}` already");
                self.problem(Rule::DuplicateName, &draft.path.field("reads").index(position), message);
            }
        }
    }

    /// DuckDB attaches one file once.
    fn check_same_file(&mut self, draft: &Draft<'a>) {
        let task = draft.task;
        let mut seen: Vec<(String, &str)> = Vec::new();
        let reads = task.reads.iter().enumerate().map(|(at, name)| ("reads", at, name));
        for (list, position, name) in reads.chain(task.writes.iter().enumerate().map(|(at, name)| ("writes", at, name)))
        {
            let Some(resource) = self.duckdb_resource(name) else { continue };
            match seen.iter().find(|(other, _)| *other == resource) {
                Some((_, other)) if other != name => {
                    let message =
                        format!("`{name}` and `{other}` are the same file, which one task can attach once only");
                    self.problem(Rule::UnfitConnection, &draft.path.field(list).index(position), message);
                }
                Some(_) => {}
                None => seen.push((resource, name)),
            }
        }
    }

    /// Checks a connection that files come from or go to.
    pub(super) fn file_connection(&mut self, name: &str, path: &FieldPath, writes: bool) {
        let Some(kind) = self.connection(name, path) else { return };
        let fits = match kind {
            ConnectionKind::Folder | ConnectionKind::S3 | ConnectionKind::Unclear => true,
            ConnectionKind::Http => !writes,
            _ => false,
        };
        if !fits {
            let takes = if writes {
                "files go to a folder or a bucket"
            } else {
                "files come from a folder, a bucket or a web address"
            };
            let message = format!("`{name}` is {}, and {takes}", kind.describe());
            self.problem(Rule::UnfitConnection, path, message);
        }
    }

    /// What stands for the file of a DuckDB connection in locks.
    pub(super) fn duckdb_resource(&self, name: &str) -> Option<String> {
        let connection: &Arc<api::Connection> = self.surroundings.connections.get(name)?;
        let duckdb = connection.spec.duckdb.as_ref()?;
        let path = normalize(&duckdb.path);
        Some(match &duckdb.volume_claim {
            Some(claim) => format!("duckdb:{claim}:{path}"),
            None => format!("duckdb:{path}"),
        })
    }

    /// A path below a connection's root, as far as it is written out.
    pub(super) fn check_file_path(&mut self, text: &str, path: &FieldPath) {
        let literal = text.split("$(").next().unwrap_or(text);
        if literal.starts_with('/') {
            let message = "the path counts from the connection's root and begins with no `/`";
            let meant = format!("`{}`", crate::problem::excerpt(text.trim_start_matches('/')));
            self.report(Problem::new(Rule::InvalidPath, path.clone(), message).suggest(Some(meant)));
        } else if literal.split('/').any(|part| part == "..") {
            self.problem(Rule::InvalidPath, path, "the path leads out of the connection by `..`");
        } else if literal.contains("://") {
            let message = "the path counts from the connection's root and is no URL";
            self.problem(Rule::InvalidPath, path, message);
        }
    }
}

/// What of a Connection its schema cannot say.
pub fn check_connection(spec: &api::ConnectionSpec) -> Vec<Problem> {
    let path = &FieldPath::root().field("spec");
    let mut problems = Vec::new();
    if let Some(duckdb) = spec.duckdb.as_ref().filter(|duckdb| duckdb.volume_claim.is_some()) {
        problems.extend(volume_path_problem(&duckdb.path, &path.field("duckdb").field("path")));
    }
    if let Some(text) = spec.duckdb.as_ref().and_then(|duckdb| duckdb.busy_timeout.as_ref())
        && let Err(message) = crate::quantity::duration(text)
    {
        problems.push(Problem::new(Rule::InvalidDuration, path.field("duckdb").field("busyTimeout"), message));
    }
    let urls = [
        ("http", "url", spec.http.as_ref().map(|http| &http.url)),
        ("s3", "endpoint", spec.s3.as_ref().and_then(|s3| s3.endpoint.as_ref())),
        ("webhook", "url", spec.webhook.as_ref().and_then(|webhook| webhook.url.as_ref())),
    ];
    for (kind, field, url) in urls {
        let Some(url) = url else { continue };
        let host = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
        if host.is_none_or(|host| host.is_empty() || host.starts_with(['/', ':'])) {
            let message =
                format!("`{}` is no address that begins with `https://` or `http://`", crate::problem::excerpt(url));
            let meant = (!url.contains("://")).then(|| format!("`https://{}`", crate::problem::excerpt(url)));
            problems.push(Problem::new(Rule::InvalidUrl, path.field(kind).field(field), message).suggest(meant));
        } else if holds_credential(url) {
            let message = "the address holds a user or password, which belong into a Secret";
            problems.push(Problem::new(Rule::InvalidUrl, path.field(kind).field(field), message));
        }
    }
    for name in spec.secrets.iter().flat_map(|values| values.keys()).filter(|name| !names::is_name(name)) {
        let message = format!(
            "`{}` is no name of a secret value: it becomes a part of the parameter `$<connection>_<name>`",
            crate::problem::excerpt(name)
        );
        problems.push(Problem::new(Rule::InvalidName, path.field("secrets").field(name), message));
    }
    problems.extend(table_problems(spec.tables.as_deref().unwrap_or_default(), &path.field("tables")));
    problems
}

/// Tables have names of their own, and columns of types that DuckDB knows.
fn table_problems(tables: &[api::ConnectionTable], path: &FieldPath) -> Vec<Problem> {
    let mut problems = Vec::new();
    let is_repeated = |names: Vec<&str>, name: &str| names.iter().any(|other| other.eq_ignore_ascii_case(name));
    for (index, table) in tables.iter().enumerate() {
        let path = path.index(index);
        let before = tables[..index].iter().map(|table| table.name.as_str()).collect();
        if is_repeated(before, &table.name) {
            let message = format!("table `{}` stands twice", crate::problem::excerpt(&table.name));
            problems.push(Problem::new(Rule::DuplicateName, path.field("name"), message));
        }
        for (position, column) in table.columns.iter().enumerate() {
            let path = path.field("columns").index(position);
            let before = table.columns[..position].iter().map(|column| column.name.as_str()).collect();
            if is_repeated(before, &column.name) {
                let message = format!("column `{}` stands twice", crate::problem::excerpt(&column.name));
                problems.push(Problem::new(Rule::InvalidContract, path.field("name"), message));
            }
            if let Err(error) = Type::parse(&column.data_type) {
                let problem = Problem::new(Rule::InvalidType, path.field("type"), error.message);
                problems.push(problem.suggest(error.suggestion));
            }
        }
    }
    problems
}

/// A path on a volume stays there.
fn volume_path_problem(text: &str, path: &FieldPath) -> Option<Problem> {
    let stays = !text.starts_with('/') && !text.ends_with('/') && !text.contains("://");
    if stays && text.split('/').all(|part| !part.is_empty() && part != "..") {
        return None;
    }
    let message = "with `volumeClaim` the path counts from the volume: no `/` first or last, no `..`, no URL";
    let meant = text.trim_matches('/');
    let meant = (!meant.is_empty() && meant != text && !text.contains(".."))
        .then(|| format!("`{}`", crate::problem::excerpt(meant)));
    Some(Problem::new(Rule::InvalidPath, path.clone(), message).suggest(meant))
}

/// Whether an address names a user before its host.
pub(super) fn holds_credential(url: &str) -> bool {
    let host = url.split_once("://").and_then(|(_, rest)| rest.split('/').next());
    host.is_some_and(|host| host.contains('@'))
}

/// One spelling for paths that differ in `.`, `..` and doubled slashes only.
fn normalize(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if path.starts_with('/') => {}
            part => parts.push(part),
        }
    }
    let root = if path.starts_with('/') { "/" } else { "" };
    format!("{root}{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn paths_to_one_file_have_one_spelling() {
        for (given, normal) in
            [("/a/./b//../c.db", "/a/c.db"), ("../x", "../x"), ("a/../../x", "../x"), ("/../x", "/x")]
        {
            assert_eq!(super::normalize(given), normal);
        }
    }
}
