//! The objects that a store keeps for runs without a cluster: Executions, what they run, and Artifacts.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use bytes::Bytes;
use pintail_api as api;
use pintail_storage::layout::{self, DEFAULT_NAMESPACE};
use pintail_storage::{PutOnce, Store, StoreErrorClass, Update, Version};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::failure::CommandFailure;
use crate::place::{LATEST, newest_first, unknown_run};

/// Manifests of a run are at most a few of these; what is larger is neither written nor read.
pub(super) const OBJECT_BYTES: usize = 16 << 20;

/// Which manifests a run was started from, one path a line: connections are read from them again at `resume`.
pub const SOURCES_ANNOTATION: &str = "pintail.dev/sources";

/// What a revision names: the Workflow and the ConfigMaps that its queries stand in.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Revision {
    pub workflow: api::Workflow,
    pub config_maps: BTreeMap<String, BTreeMap<String, String>>,
}

/// An Execution and the version that it was read or written at.
#[derive(Debug)]
pub struct StoredExecution {
    pub execution: api::Execution,
    pub(super) version: Version,
}

/// The records of one store.
#[derive(Clone, Debug)]
pub struct Records {
    pub store: Store,
}

impl Records {
    /// Opens the store at `place`, a folder or `s3://…`.
    pub async fn open(place: &str) -> Result<Self, CommandFailure> {
        let location = pintail_storage::parse_location(place).map_err(CommandFailure::usage)?;
        Ok(Self { store: Store::open(&location).await? })
    }

    /// Writes a new Execution.
    pub async fn create(&self, execution: api::Execution) -> Result<StoredExecution, CommandFailure> {
        let name = execution.metadata.name.clone().unwrap_or_default();
        self.try_create(execution).await?.ok_or_else(|| {
            CommandFailure::failed(format!(
                "there is a run {name:?} in this store already: give the Execution another name"
            ))
        })
    }

    /// As [`Records::create`]; none where there is one of that name.
    pub async fn try_create(&self, execution: api::Execution) -> Result<Option<StoredExecution>, CommandFailure> {
        let name = execution.metadata.name.clone().unwrap_or_default();
        let key = layout::execution(DEFAULT_NAMESPACE, &name)?;
        match self.store.update(&key, encode(&execution)?, None).await? {
            Update::Done(version) => Ok(Some(StoredExecution { execution, version })),
            Update::Conflict => Ok(None),
        }
    }

    /// Writes an Execution that was read or created before.
    pub async fn save(&self, stored: &mut StoredExecution) -> Result<(), CommandFailure> {
        let name = stored.execution.metadata.name.clone().unwrap_or_default();
        let key = layout::execution(DEFAULT_NAMESPACE, &name)?;
        match self.store.update(&key, encode(&stored.execution)?, Some(&stored.version)).await? {
            Update::Done(version) => {
                stored.version = version;
                Ok(())
            }
            Update::Conflict => Err(CommandFailure::failed(format!(
                "run {name:?} was changed by another process, which goes on with it; this one stops"
            ))),
        }
    }

    /// The Execution of that name; `@latest` is the newest.
    pub async fn execution(&self, name: &str) -> Result<StoredExecution, CommandFailure> {
        if name == LATEST {
            let newest = self.executions().await?.into_iter().next();
            let newest = newest.ok_or_else(|| CommandFailure::failed("there is no run in this store yet"))?;
            return Box::pin(self.execution(&newest.metadata.name.unwrap_or_default())).await;
        }
        match self.find(name).await? {
            Some(stored) => Ok(stored),
            None => {
                let known = self.executions().await.unwrap_or_default();
                Err(unknown_run(name, &known, &format!("in {}", self.store.uri(""))))
            }
        }
    }

    /// The Execution of that name, if there is one.
    pub async fn find(&self, name: &str) -> Result<Option<StoredExecution>, CommandFailure> {
        let key = layout::execution(DEFAULT_NAMESPACE, name)?;
        match self.store.read_versioned(&key, OBJECT_BYTES).await? {
            Some((bytes, version)) => Ok(Some(StoredExecution { execution: decode(&key, &bytes)?, version })),
            None => Ok(None),
        }
    }

    /// Every Execution, newest first. One that cannot be read is left out, with a line on standard error.
    pub async fn executions(&self) -> Result<Vec<api::Execution>, CommandFailure> {
        let mut executions: Vec<api::Execution> = self.all(&layout::executions(DEFAULT_NAMESPACE)?).await?;
        newest_first(&mut executions);
        Ok(executions)
    }

    /// Every published version, newest first.
    pub async fn artifacts(&self) -> Result<Vec<api::Artifact>, CommandFailure> {
        let mut artifacts: Vec<api::Artifact> = self.all(&layout::catalog_folder(DEFAULT_NAMESPACE)?).await?;
        artifacts.sort_by_key(|artifact| Reverse(artifact.spec.created_at.clone()));
        Ok(artifacts)
    }

    /// Records a published version. Repeating it does no harm: its content is the same.
    pub async fn publish(&self, artifact: &api::Artifact) -> Result<(), CommandFailure> {
        let name = artifact.metadata.name.clone().unwrap_or_default();
        let key = layout::catalog(DEFAULT_NAMESPACE, &artifact.spec.artifact, &name)?;
        let (PutOnce::Created | PutOnce::Exists) = self.store.put_once(&key, encode(artifact)?).await?;
        Ok(())
    }

    /// Keeps what a revision names.
    pub async fn keep_revision(&self, name: &str, revision: &Revision) -> Result<(), CommandFailure> {
        let key = layout::revision(DEFAULT_NAMESPACE, name)?;
        let (PutOnce::Created | PutOnce::Exists) = self.store.put_once(&key, encode(revision)?).await?;
        Ok(())
    }

    pub async fn revision(&self, name: &str) -> Result<Revision, CommandFailure> {
        let key = layout::revision(DEFAULT_NAMESPACE, name)?;
        let bytes = self.store.get(&key, OBJECT_BYTES).await?;
        let bytes = bytes.ok_or_else(|| CommandFailure::failed(format!("there is no {}", self.store.uri(&key))))?;
        decode(&key, &bytes)
    }

    async fn all<T: DeserializeOwned>(&self, folder: &str) -> Result<Vec<T>, CommandFailure> {
        let mut objects = Vec::new();
        for key in self.keys(folder).await? {
            objects.extend(self.read(&key).await?);
        }
        Ok(objects)
    }

    /// The keys of the objects in a folder.
    pub async fn keys(&self, folder: &str) -> Result<Vec<String>, CommandFailure> {
        let mut keys = self.store.list(folder).await?;
        keys.retain(|key| key.ends_with(".json"));
        Ok(keys)
    }

    /// The object of a key. One that is gone or cannot be read is left out, the latter with a line on standard error.
    pub async fn read<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, CommandFailure> {
        let read = match self.store.get(key, OBJECT_BYTES).await {
            Ok(None) => return Ok(None),
            Ok(Some(bytes)) => decode(key, &bytes),
            Err(error) if error.class() == StoreErrorClass::Corrupt => Err(error.into()),
            Err(error) => return Err(error.into()),
        };
        match read {
            Ok(object) => Ok(Some(object)),
            Err(failure) => {
                eprintln!("warning: left out: {}", failure.message);
                Ok(None)
            }
        }
    }
}

pub(super) fn encode<T: Serialize>(object: &T) -> Result<Bytes, CommandFailure> {
    let bytes = serde_json::to_vec_pretty(object).map_err(CommandFailure::failed)?;
    if bytes.len() > OBJECT_BYTES {
        return Err(CommandFailure::failed(format!(
            "the record of this run has {} bytes, and at most {OBJECT_BYTES} can be kept: give tables as files, not as rows",
            bytes.len()
        )));
    }
    Ok(Bytes::from(bytes))
}

pub(super) fn decode<T: DeserializeOwned>(key: &str, bytes: &[u8]) -> Result<T, CommandFailure> {
    serde_json::from_slice(bytes).map_err(|error| CommandFailure::failed(format!("cannot read {key}: {error}")))
}
