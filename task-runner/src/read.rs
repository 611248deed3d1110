//! Answers what a person asks of the store: rows of results, logs, and whether it does what runs need.

use std::path::PathBuf;

use bytes::Bytes;
use pintail_protocol::{Preview, Read, ReadRequest, ReportOutcome, StoredFile, TableResult};
use pintail_storage::{PutOnce, RunTask, Store, layout};
use tokio::runtime::Runtime;

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
    let reading = Reading { store: Store::connect(&request.store)?, runtime: files::runtime()? };
    match &request.read {
        Read::Preview { files, limit, sql, table } => reading.rows(files, *limit, sql.as_deref(), table),
        Read::Committed { namespace, execution_uid, task, file, limit, sql, table } => {
            let run_task = RunTask::new(namespace, execution_uid, task, None)?;
            let files = reading.committed(&run_task, task, file.as_deref())?;
            reading.rows(&files, *limit, sql.as_deref(), table)
        }
        Read::Log { namespace, execution_uid, tasks } => reading.logs(namespace, execution_uid, tasks),
        Read::StoreCheck { folder } => reading.check_store(folder).map(|()| Vec::new()),
    }
}

struct Reading {
    store: Store,
    runtime: Runtime,
}

impl Reading {
    fn rows(&self, files: &[StoredFile], limit: u32, sql: Option<&str>, table: &str) -> Result<Vec<u8>, TaskFailure> {
        let scratch = tempfile::tempdir().map_err(|error| TaskFailure::from_io(&error, "make a scratch folder"))?;
        let staged = files.iter().map(|file| self.runtime.block_on(self.store.stage(file, scratch.path())));
        let paths: Vec<PathBuf> = staged.collect::<Result<_, _>>()?;
        let rows = preview(&paths, table, sql, usize::try_from(limit).unwrap_or(usize::MAX))?;
        let rows = Preview { columns: rows.columns, rows: rows.rows };
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

    /// The files of a committed table.
    fn committed(&self, run_task: &RunTask, task: &str, file: Option<&str>) -> Result<Vec<StoredFile>, TaskFailure> {
        let missing = |what: &str| TaskFailure::permanent("ResultMissing", format!("task {task} has {what}"));
        let committed = self.runtime.block_on(self.store.read_commit(run_task))?;
        let (_, report) = committed.ok_or_else(|| missing("no committed result"))?;
        let ReportOutcome::Succeeded(results) = report.outcome else { return Err(missing("no result")) };
        let wanted = |table: &TableResult| file.is_none_or(|key| table.files.iter().any(|file| file.key == key));
        let table = results.tables.into_iter().find(wanted);
        table.map(|table| table.files).ok_or_else(|| missing("no such table"))
    }

    /// The newest lines, where there are more than an answer holds.
    fn logs(&self, namespace: &str, execution_uid: &str, tasks: &[String]) -> Result<Vec<u8>, TaskFailure> {
        let mut text = String::new();
        for task in tasks {
            let log = self.runtime.block_on(self.store.read_log(namespace, execution_uid, task))?;
            for line in String::from_utf8_lossy(&log).lines() {
                text.push_str(&format!("{task}  {line}\n"));
            }
        }
        Ok(last_lines(text.into_bytes(), ANSWER_BYTES))
    }

    /// A store that lets two writers create one object would let two attempts commit.
    fn check_store(&self, folder: &str) -> Result<(), TaskFailure> {
        let key = layout::file(folder, "probe")?;
        let put =
            |text: &'static str| self.runtime.block_on(self.store.put_once(&key, Bytes::from_static(text.as_bytes())));
        let (first, second) = (put("first")?, put("second")?);
        // Runs delete nothing: a credential that may not is good enough, and leaves one small object.
        let _ = self.runtime.block_on(self.store.delete_folder(folder));
        match (first, second) {
            (PutOnce::Created, PutOnce::Exists) => Ok(()),
            _ => {
                let message = "the store created one object twice: it does not know the condition If-None-Match";
                Err(TaskFailure::permanent("StoreNotConditional", message))
            }
        }
    }
}

/// The last whole lines of a text that have at most `limit_bytes`.
pub(crate) fn last_lines(mut text: Vec<u8>, limit_bytes: usize) -> Vec<u8> {
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
