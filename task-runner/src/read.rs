//! Answers what a person asks of the store: rows of results, and logs.

use std::path::PathBuf;

use pintail_protocol::{Preview, Read, ReadRequest, StoredFile};
use pintail_storage::Store;

use crate::failure::TaskFailure;
use crate::files;
use crate::preview::preview;

/// The kubelet keeps 10 MiB of what a container writes; a longer answer would come without its beginning.
const ANSWER_BYTES: usize = 8 << 20;

/// The whole answer: JSON of a [`Preview`], or lines of logs.
///
/// # Errors
/// A store that refuses, files that are not what was recorded, a query that fails, an answer that is too large.
pub fn answer(request: &ReadRequest) -> Result<Vec<u8>, TaskFailure> {
    match &request.read {
        Read::Preview { files, limit, sql, table } => {
            let rows = rows(request, files, *limit, sql.as_deref(), table)?;
            let answer = serde_json::to_vec(&rows)
                .map_err(|error| TaskFailure::permanent("InvalidText", format!("could not show the rows: {error}")))?;
            if answer.len() > ANSWER_BYTES {
                let message = format!(
                    "the answer has {} bytes, more than {ANSWER_BYTES}: ask for fewer rows or columns",
                    answer.len()
                );
                return Err(TaskFailure::permanent("AnswerTooLarge", message));
            }
            Ok(answer)
        }
        Read::Log { namespace, execution_uid, tasks } => logs(request, namespace, execution_uid, tasks),
    }
}

fn rows(
    request: &ReadRequest,
    files: &[StoredFile],
    limit: u32,
    sql: Option<&str>,
    table: &str,
) -> Result<Preview, TaskFailure> {
    let runtime = files::runtime()?;
    let store = Store::connect(&request.store)?;
    let scratch = tempfile::tempdir().map_err(|error| TaskFailure::from_io(&error, "make a scratch folder"))?;
    let staged = files.iter().map(|file| runtime.block_on(store.stage(file, scratch.path())));
    let paths: Vec<PathBuf> = staged.collect::<Result<_, _>>()?;
    let rows = preview(&paths, table, sql, usize::try_from(limit).unwrap_or(usize::MAX))?;
    Ok(Preview { columns: rows.columns, rows: rows.rows })
}

/// The newest lines, where there are more than an answer holds.
fn logs(request: &ReadRequest, namespace: &str, execution_uid: &str, tasks: &[String]) -> Result<Vec<u8>, TaskFailure> {
    let runtime = files::runtime()?;
    let store = Store::connect(&request.store)?;
    let mut text = String::new();
    for task in tasks {
        let log = runtime.block_on(store.read_log(namespace, execution_uid, task))?;
        for line in String::from_utf8_lossy(&log).lines() {
            text.push_str(&format!("{task}  {line}\n"));
        }
    }
    Ok(last_lines(text.into_bytes(), ANSWER_BYTES))
}

/// The last whole lines of a text that have at most `limit_bytes`.
fn last_lines(mut text: Vec<u8>, limit_bytes: usize) -> Vec<u8> {
    let excess = text.len().saturating_sub(limit_bytes);
    if excess == 0 {
        return text;
    }
    // From the byte before, which may be the end of a line itself.
    let line_end = text.iter().skip(excess - 1).position(|byte| *byte == b'\n');
    text.split_off(line_end.map_or(text.len(), |at| excess + at))
}

#[cfg(test)]
mod tests {
    use super::last_lines;

    #[test]
    fn too_long_a_log_loses_its_first_lines() {
        let lines = |limit| String::from_utf8(last_lines(b"one\ntwo\nthree\n".to_vec(), limit)).unwrap();
        assert_eq!(lines(14), "one\ntwo\nthree\n");
        assert_eq!(lines(13), "two\nthree\n");
        assert_eq!(lines(10), "two\nthree\n");
        assert_eq!(lines(9), "three\n");
        assert_eq!(lines(5), "");
    }
}
