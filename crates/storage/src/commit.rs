//! One result a task: reports of attempts, and the record that names the winner.

use bytes::Bytes;
use pintail_protocol::{CommitRecord, FORMAT, NewerFormat, REPORT_BYTES, TaskReport, check_format};
use serde::de::DeserializeOwned;

use crate::{PutOnce, RunTask, Store, StoreError, StoreErrorClass, digest, layout};

/// A commit record is small; more is something else.
const RECORD_BYTES: usize = 16 * 1024;

/// What came of [`Store::commit`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommitOutcome {
    Committed(CommitRecord),
    /// The record is there and names this report: an earlier try of this process got through, but its reply did not.
    AlreadyOurs(CommitRecord),
    /// Another process's result counts; nothing of this one does.
    Superseded(CommitRecord),
}

impl Store {
    /// Publishes the report of a succeeded attempt, all of whose files are stored: writes it as `report.json` in the
    /// attempt's folder, then creates `_commit`. Of all that try, one succeeds. May be called again with the same report
    /// after an error.
    ///
    /// # Errors
    /// Where the store fails and it stays unknown who won: the record decides, see [`Store::read_commit`].
    pub async fn commit(&self, report: &TaskReport) -> Result<CommitOutcome, StoreError> {
        let run = RunTask::of(&report.identity)?;
        let (key, digest) = self.write_report(report, "report.json").await?;
        let record = CommitRecord {
            format: FORMAT,
            attempt: report.identity.attempt,
            pod_uid: report.pod_uid.clone(),
            report: key,
            digest,
        };
        let bytes = encode(&record, &self.uri(&run.commit_key()))?;
        if self.put_once(&run.commit_key(), bytes).await? == PutOnce::Created {
            return Ok(CommitOutcome::Committed(record));
        }
        let found = self.read_record(&run).await?.ok_or_else(|| self.missing(&run.commit_key()))?;
        if found.pod_uid == record.pod_uid && found.digest == record.digest {
            return Ok(CommitOutcome::AlreadyOurs(found));
        }
        Ok(CommitOutcome::Superseded(found))
    }

    /// Stores the report of a failed attempt as `failure.json`: another name than a committed one, which it must never
    /// overwrite. Gives its key and digest.
    ///
    /// # Errors
    /// Where it cannot be written, or is larger than [`REPORT_BYTES`].
    pub async fn put_report(&self, report: &TaskReport) -> Result<(String, String), StoreError> {
        self.write_report(report, "failure.json").await
    }

    /// The committed result of a task, if there is one.
    ///
    /// # Errors
    /// Where it cannot be read; class `Corrupt` where the report is not the one that was committed, `NewerFormat` where
    /// a newer build wrote it.
    pub async fn read_commit(&self, run: &RunTask) -> Result<Option<(CommitRecord, TaskReport)>, StoreError> {
        let Some(record) = self.read_record(run).await? else { return Ok(None) };
        let report = self.read_report(&record.report, &record.digest).await?;
        Ok(Some((record, report)))
    }

    /// A report, as a commit record, a termination message or a candidate for reuse names it.
    ///
    /// # Errors
    /// As [`Store::read_commit`]; class `NotFound` where there is none.
    pub async fn read_report(&self, key: &str, expected_digest: &str) -> Result<TaskReport, StoreError> {
        let bytes = self.get(key, REPORT_BYTES).await?.ok_or_else(|| self.missing(key))?;
        self.parse_report(key, expected_digest, &bytes)
    }

    /// A report whose bytes are at hand.
    ///
    /// # Errors
    /// As [`Store::read_report`].
    pub fn parse_report(&self, key: &str, expected_digest: &str, bytes: &[u8]) -> Result<TaskReport, StoreError> {
        let found = digest(bytes);
        if found != expected_digest {
            let cause = format!("its content has digest {found}, but {expected_digest} was recorded");
            return Err(StoreError::new(StoreErrorClass::Corrupt, "read", self.uri(key), cause));
        }
        self.decode("the report", key, bytes)
    }

    async fn read_record(&self, run: &RunTask) -> Result<Option<CommitRecord>, StoreError> {
        let key = run.commit_key();
        let Some(bytes) = self.get(&key, RECORD_BYTES).await? else { return Ok(None) };
        self.decode("the commit record", &key, &bytes).map(Some)
    }

    async fn write_report(&self, report: &TaskReport, name: &str) -> Result<(String, String), StoreError> {
        let run = RunTask::of(&report.identity)?;
        let key = layout::file(&run.attempt_folder(report.identity.attempt, &report.pod_uid)?, name)?;
        let bytes = encode(report, &self.uri(&key))?;
        if bytes.len() > REPORT_BYTES {
            let cause = format!("it would have {} bytes; a report has at most {REPORT_BYTES}", bytes.len());
            return Err(StoreError::new(StoreErrorClass::Invalid, "write", self.uri(&key), cause));
        }
        let digest = digest(&bytes);
        // Once: a record that is committed already names this content.
        if self.put_once(&key, bytes.clone()).await? == PutOnce::Exists
            && self.get(&key, REPORT_BYTES).await?.as_ref() != Some(&bytes)
        {
            let cause = "this attempt has written another report already";
            return Err(StoreError::new(StoreErrorClass::Invalid, "write", self.uri(&key), cause));
        }
        Ok((key, digest))
    }

    /// The format first: a newer document may not even have the fields that this build wants.
    fn decode<T: DeserializeOwned>(&self, what: &'static str, key: &str, bytes: &[u8]) -> Result<T, StoreError> {
        #[derive(serde::Deserialize)]
        struct Format {
            format: u32,
        }
        let corrupt = |error: serde_json::Error| {
            let cause = format!("{what} cannot be understood ({error})");
            StoreError::new(StoreErrorClass::Corrupt, "read", self.uri(key), cause)
        };
        let newer = |error: NewerFormat| {
            StoreError::new(StoreErrorClass::NewerFormat, "read", self.uri(key), error.to_string())
        };
        let Format { format } = serde_json::from_slice(bytes).map_err(corrupt)?;
        check_format(what, format).map_err(newer)?;
        serde_json::from_slice(bytes).map_err(corrupt)
    }

    fn missing(&self, key: &str) -> StoreError {
        StoreError::new(StoreErrorClass::NotFound, "read", self.uri(key), "there is no such object")
    }
}

fn encode(value: &impl serde::Serialize, place: &str) -> Result<Bytes, StoreError> {
    serde_json::to_vec(value)
        .map(Bytes::from)
        .map_err(|error| StoreError::new(StoreErrorClass::Invalid, "write", place, error.to_string()))
}
