//! Opens what SQL reaches by name: databases, and the secrets that reading buckets and web servers takes.

use std::path::Path;
use std::time::Duration;

use pintail_protocol::{AccessMode, Connection, ConnectionTarget, SecretVariable, WorkOrder};

use crate::failure::{TaskFailure, with_pauses};
use crate::session::Session;
use crate::sql;
use crate::workspace::Environment;

/// A server that does not answer at all is given up by then.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Loads the extensions that the order needs, makes secrets and attaches databases.
pub(crate) fn open_connections(
    session: &Session,
    order: &WorkOrder,
    environment: &Environment,
) -> Result<(), TaskFailure> {
    let remote = |file: &crate::workspace::SourceFile| file.location.contains("://");
    let reads_remote = session.workspace().found.values().flatten().any(remote);
    if reads_remote {
        load(session, environment, "httpfs")?;
    }
    for connection in &order.connections {
        let opened = match &connection.target {
            ConnectionTarget::DuckDb { .. } | ConnectionTarget::Postgres { .. } => {
                attach_database(session, connection, environment)
            }
            ConnectionTarget::S3 { .. } if reads_remote => create_s3_secret(session, connection, environment),
            ConnectionTarget::Http { url, bearer_token: Some(token) } if reads_remote => {
                create_http_secret(session, connection, url, token, environment)
            }
            _ => Ok(()),
        };
        opened.map_err(|failure| failure.on(&owner(connection)))?;
    }
    Ok(())
}

/// Attaches a database under its connection's name; nothing of a connection that is none.
pub(crate) fn attach_database(
    session: &Session,
    connection: &Connection,
    environment: &Environment,
) -> Result<(), TaskFailure> {
    match &connection.target {
        ConnectionTarget::DuckDb { path, .. } => attach_file(session, connection, Path::new(path)),
        ConnectionTarget::Postgres { .. } => attach_postgres(session, connection, environment),
        _ => Ok(()),
    }
}

fn owner(connection: &Connection) -> String {
    format!("connection `{}`", connection.name)
}

fn load(session: &Session, environment: &Environment, extension: &str) -> Result<(), TaskFailure> {
    let file = environment.extension(extension)?;
    session.batch(&format!("LOAD {}", sql::text(&file.to_string_lossy())), &format!("load extension {extension}"))
}

fn attach_file(session: &Session, connection: &Connection, path: &Path) -> Result<(), TaskFailure> {
    let attempt = format!("attach {}", path.display());
    let options = match connection.mode {
        AccessMode::Read if !path.exists() => {
            return Err(TaskFailure::permanent(
                "DatabaseMissing",
                format!("{} does not exist: a task that writes the connection creates it", path.display()),
            ));
        }
        AccessMode::Read => " (READ_ONLY)",
        AccessMode::Write => {
            let folder = path.parent().unwrap_or(path);
            std::fs::create_dir_all(folder)
                .map_err(|error| TaskFailure::from_io(&error, &format!("make folder {}", folder.display())))?;
            if !path.exists() {
                create_file(session, path, folder)?;
            }
            ""
        }
    };
    let statement =
        format!("ATTACH {} AS {}{options}", sql::text(&path.to_string_lossy()), sql::identifier(&connection.name));
    session.batch(&statement, &attempt)
}

/// Makes a database in a folder of its own and links it to its place whole: DuckDB writes a new file in several steps, and
/// one that is half there, because its maker is still at it or was killed, is a database to nobody.
fn create_file(session: &Session, path: &Path, folder: &Path) -> Result<(), TaskFailure> {
    let attempt = format!("make {}", path.display());
    let own = tempfile::Builder::new().prefix(".pintail-").tempdir_in(folder);
    let own = own.map_err(|error| TaskFailure::from_io(&error, &attempt))?;
    let whole = own.path().join("new.duckdb");
    let file = sql::text(&whole.to_string_lossy());
    session.batch(&format!("ATTACH {file} AS _pintail_new; DETACH _pintail_new"), &attempt)?;
    // Where another process was quicker its file is attached; where the file system has no links DuckDB makes the file.
    let _ = std::fs::hard_link(&whole, path);
    Ok(())
}

fn attach_postgres(session: &Session, connection: &Connection, environment: &Environment) -> Result<(), TaskFailure> {
    let ConnectionTarget::Postgres { host, port, database, user, password, ssl_mode } = &connection.target else {
        return Ok(());
    };
    load(session, environment, "postgres_scanner")?;
    let port = port.to_string();
    let mut options = vec![
        ("TYPE", "postgres".to_owned()),
        ("HOST", sql::text(host)),
        ("PORT", sql::text(&port)),
        ("DATABASE", sql::text(database)),
        ("USER", sql::text(user)),
    ];
    if let Some(password) = password {
        options.push(("PASSWORD", sql::text(environment.secret(password, "the password")?)));
    }
    // In a secret, for `duckdb_databases()` shows the text of an ATTACH.
    create_secret(session, connection, &options)?;
    let name = sql::identifier(&connection.name);
    let read_only = if connection.mode == AccessMode::Read { ", READ_ONLY" } else { "" };
    let words = sql::text(&format!("sslmode={ssl_mode} connect_timeout={}", CONNECT_TIMEOUT.as_secs()));
    let statement = format!("ATTACH {words} AS {name} (TYPE postgres, SECRET {name}{read_only})");
    let attach =
        || session.batch(&statement, "attach").map_err(|failure| postgres_failure(&failure, host, &port, database));
    // Nothing is done yet, so that a server that restarts or a name that is not answered costs no attempt of the task.
    with_pauses(|failure| failure.reason == "ConnectionFailed", attach)
}

/// The server's words may repeat what it was sent, so none of them are repeated.
fn postgres_failure(failure: &TaskFailure, host: &str, port: &str, database: &str) -> TaskFailure {
    let place = format!("database {database} on {host}:{port}");
    if failure.message.contains("authentication failed") || failure.message.contains("no password supplied") {
        TaskFailure::transient("AccessDenied", format!("{place} refused the user or the password"))
    } else if failure.message.contains("does not exist") {
        TaskFailure::permanent("DatabaseMissing", format!("{place} does not exist, or its user does not"))
    } else {
        TaskFailure::transient("ConnectionFailed", format!("{place} cannot be reached: check host, port and TLS mode"))
    }
}

fn create_s3_secret(session: &Session, connection: &Connection, environment: &Environment) -> Result<(), TaskFailure> {
    let ConnectionTarget::S3 {
        bucket,
        prefix,
        endpoint,
        region,
        path_style,
        anonymous,
        access_key_id,
        secret_access_key,
    } = &connection.target
    else {
        return Ok(());
    };
    let scope = format!("s3://{bucket}/{prefix}{}", if prefix.is_empty() { "" } else { "/" });
    let mut options = vec![("TYPE", "s3".to_owned()), ("SCOPE", sql::text(&scope))];
    if let Some(endpoint) = endpoint {
        let (scheme, address) = endpoint.split_once("://").unwrap_or(("https", endpoint));
        options.push(("ENDPOINT", sql::text(address.trim_end_matches('/'))));
        options.push(("USE_SSL", (scheme == "https").to_string()));
    }
    if *path_style {
        options.push(("URL_STYLE", "'path'".to_owned()));
    }
    let region = region.as_deref().or_else(|| environment.variable("AWS_REGION")).unwrap_or("us-east-1");
    options.push(("REGION", sql::text(region)));
    if !*anonymous {
        let given = |variable: &Option<SecretVariable>, default: &str| match variable {
            Some(variable) => environment.secret(variable, "the access key").map(Some),
            None => Ok(environment.variable(default)),
        };
        let keys = [
            ("KEY_ID", given(access_key_id, "AWS_ACCESS_KEY_ID")?),
            ("SECRET", given(secret_access_key, "AWS_SECRET_ACCESS_KEY")?),
            ("SESSION_TOKEN", if access_key_id.is_none() { environment.variable("AWS_SESSION_TOKEN") } else { None }),
        ];
        options.extend(keys.into_iter().filter_map(|(name, value)| Some((name, sql::text(value?)))));
    }
    create_secret(session, connection, &options)
}

fn create_http_secret(
    session: &Session,
    connection: &Connection,
    url: &str,
    token: &SecretVariable,
    environment: &Environment,
) -> Result<(), TaskFailure> {
    let token = environment.secret(token, "the bearer token")?;
    let options =
        [("TYPE", "http".to_owned()), ("SCOPE", sql::text(&format!("{url}/"))), ("BEARER_TOKEN", sql::text(token))];
    create_secret(session, connection, &options)
}

/// The error text of a failed CREATE SECRET could show its values, so none of it is repeated.
fn create_secret(session: &Session, connection: &Connection, options: &[(&str, String)]) -> Result<(), TaskFailure> {
    let options: Vec<_> = options.iter().map(|(name, value)| format!("{name} {value}")).collect();
    let name = sql::identifier(&connection.name);
    session
        .connection()
        .execute_batch(&format!("CREATE TEMPORARY SECRET {name} ({})", options.join(", ")))
        .map_err(|_| TaskFailure::permanent("InvalidConnection", "DuckDB does not take these credentials"))
}
