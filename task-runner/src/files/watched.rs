use std::sync::Arc;

use jiff::Timestamp;
use pintail_protocol::{Connection, FileIdentity};

use super::{Environment, Pattern, Place, TaskFailure, check_path, on_connection, pattern};

/// A file as a listing shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ListedFile {
    pub identity: FileIdentity,
    pub modified_at: Timestamp,
}

/// The place of one connection of kind `folder` or `s3` that is listed again and again. Unlike [`super::Files`], it is
/// for the threads of an asynchronous runtime.
pub(crate) struct Watched {
    connection: String,
    place: Arc<Place>,
}

impl Watched {
    /// # Errors
    /// As [`super::Files::open`]; `WrongConnection` for http, too.
    pub fn open(connection: &Connection, environment: &Environment) -> Result<Self, TaskFailure> {
        let place = match Place::open(connection, environment) {
            Ok(Place::Web(_)) => {
                let message = "a web server cannot be asked what is there: use a connection of kind folder or s3";
                Err(TaskFailure::permanent("WrongConnection", message))
            }
            place => place,
        };
        let place = place.map_err(|failure| on_connection(failure, &connection.name))?;
        Ok(Self { connection: connection.name.clone(), place: Arc::new(place) })
    }

    /// Gives each file that a path or pattern names to `each`, in no order. None there is fine. An object that shows a
    /// folder of a bucket is among them, see [`Watched::is_file`].
    ///
    /// # Errors
    /// As [`super::Files::list`]; not all files were given then.
    pub async fn fold<T: Send + 'static>(
        &self,
        pattern: &str,
        state: T,
        each: fn(&mut T, ListedFile),
    ) -> Result<T, TaskFailure> {
        self.visit(pattern, state, each).await.map_err(|failure| on_connection(failure, &self.connection))
    }

    async fn visit<T: Send + 'static>(
        &self,
        path: &str,
        mut state: T,
        each: fn(&mut T, ListedFile),
    ) -> Result<T, TaskFailure> {
        check_path(path)?;
        let pattern = Pattern::parse(path)?;
        let is_pattern = pattern::is_pattern(path);
        if let Place::Bucket(bucket) = self.place.as_ref() {
            if is_pattern {
                bucket.visit(&pattern, |file| each(&mut state, file)).await?;
            } else {
                one(bucket.head(path).await)?.into_iter().for_each(|file| each(&mut state, file));
            }
            return Ok(state);
        }
        let (place, path) = (Arc::clone(&self.place), path.to_owned());
        let listed = tokio::task::spawn_blocking(move || {
            if let Place::Folder(folder) = place.as_ref() {
                if is_pattern {
                    folder.visit(&pattern, |file| each(&mut state, file))?;
                } else {
                    one(folder.head(&path))?.into_iter().for_each(|file| each(&mut state, file));
                }
            }
            Ok(state)
        });
        listed.await.unwrap_or_else(|error| Err(TaskFailure::infrastructure("InputOutput", error.to_string())))
    }

    /// Whether a listed file is one: consoles show a folder of a bucket by an empty object. Asks only for empty ones.
    ///
    /// # Errors
    /// As [`super::Files::head`].
    pub async fn is_file(&self, file: &FileIdentity) -> Result<bool, TaskFailure> {
        match self.place.as_ref() {
            Place::Bucket(bucket) if file.bytes == 0 => {
                bucket.is_object(&file.path).await.map_err(|failure| on_connection(failure, &self.connection))
            }
            _ => Ok(true),
        }
    }

    /// Whether files may be seen before they are whole. An object of a bucket appears at once.
    pub fn shows_half_written(&self) -> bool {
        matches!(*self.place, Place::Folder(_))
    }

    /// As [`super::Files::uri`].
    pub fn uri(&self, path: &str) -> String {
        self.place.uri(path)
    }
}

fn one(found: Result<ListedFile, TaskFailure>) -> Result<Option<ListedFile>, TaskFailure> {
    match found {
        Ok(file) => Ok(Some(file)),
        Err(failure) if failure.reason == "NotFound" => Ok(None),
        Err(failure) => Err(failure),
    }
}
