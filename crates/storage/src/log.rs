//! Logs of attempts: chunks that are written while the work runs.

use crate::{RunTask, Store, StoreError};

/// A runner writes no larger chunks.
const CHUNK_BYTES: usize = 2 << 20;

/// Attempts of a task, or of an item of it, and chunks of an attempt come in the order of their numbers, and processes of
/// one attempt one after the other.
type Position = (Option<u32>, u32, String, u32);

impl Store {
    /// The log of all attempts of a task, with its items, as far as it is written.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub async fn read_log(&self, namespace: &str, execution_uid: &str, task: &str) -> Result<Vec<u8>, StoreError> {
        let run = RunTask::new(namespace, execution_uid, task, None)?;
        let keys = self.list(run.folder()).await?;
        let mut chunks: Vec<(Position, &String)> =
            keys.iter().filter_map(|key| Some((position(key.strip_prefix(run.folder())?)?, key))).collect();
        chunks.sort_unstable();
        let mut log = Vec::new();
        for (_, key) in chunks {
            log.extend_from_slice(&self.get(key, CHUNK_BYTES).await?.unwrap_or_default());
        }
        Ok(log)
    }
}

/// Of `[/<item>]/a<attempt>/<pod uid>/log/<number>.txt`; `None` for any other key.
fn position(below_task: &str) -> Option<Position> {
    let parts: Vec<&str> = below_task.trim_start_matches('/').split('/').collect();
    let (item, [attempt, pod_uid, "log", chunk]) = (match parts.as_slice() {
        [item, rest @ ..] if rest.len() == 4 => (Some(item.parse().ok()?), rest),
        all => (None, all),
    }) else {
        return None;
    };
    let attempt = attempt.strip_prefix('a')?.parse().ok()?;
    let chunk = chunk.strip_suffix(".txt")?.parse().ok()?;
    Some((item, attempt, (*pod_uid).to_owned(), chunk))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_chunks_of_logs_have_a_position() {
        assert_eq!(position("/a10/pod/log/000002.txt"), Some((None, 10, "pod".to_owned(), 2)));
        assert_eq!(position("/7/a1/pod/log/000001.txt"), Some((Some(7), 1, "pod".to_owned(), 1)));
        for other in ["/_commit", "/a1/pod/report.json", "/a1/pod/result.parquet", "/x/a1/pod/log/000001.txt", ""] {
            assert_eq!(position(other), None, "{other}");
        }
    }
}
