//! The process that checks: from both sides of its pipes.

use std::io::{Read, Write};
use std::process::Stdio;
use std::time::Duration;

use bytes::Bytes;
use pintail_protocol::{CHECK_BYTES, CheckRequest, CheckResponse};
use rustix::process::{Resource, Rlimit, setrlimit};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use crate::check::{Checker, seal};
use crate::failure::TaskFailure;

/// What a worker may allocate: DuckDB's own limit for a check, and as much again for what it allocates beside its buffers.
/// The chart gives the pod 1 GiB.
const MEMORY_BYTES: u64 = 768 << 20;
/// Of one check. Two hundred tasks take a second; an API server waits for ten.
pub(super) const CHECK_TIME: Duration = Duration::from_secs(5);
/// A worker that got less of a processor than this in that time was not slow: the machine was.
const LEAST_PROCESSOR_TIME: Duration = Duration::from_secs(1);
/// To start DuckDB on a machine that is busy.
const START_TIME: Duration = Duration::from_secs(20);
/// The columns of a thousand results and where they come from take a few MiB.
const RESPONSE_BYTES: u32 = 32 << 20;
/// After so many checks a worker is replaced, and with it whatever they left in its memory.
const CHECKS_OF_A_WORKER: u32 = 1000;
/// What a worker says once it takes requests.
const READY: u8 = b'+';

/// What a worker answers.
#[derive(Serialize, Deserialize)]
enum Answer {
    Checked(CheckResponse),
    NotUnderstood(String),
    Failed(String),
}

/// Why there is no response to a request.
pub(super) enum NotChecked {
    /// Of no use as it is.
    NotUnderstood(String),
    /// As it would be again.
    Failed(String),
    /// For reasons of this machine.
    Unavailable(String),
    /// The worker got no time to run.
    Slow(String),
}

/// Takes requests from standard input and answers on standard output, until there are no more.
///
/// # Errors
/// Where DuckDB cannot start, or whoever asked is gone.
pub fn work() -> Result<(), TaskFailure> {
    let fail = |error: std::io::Error| TaskFailure::from_io(&error, "serve checks");
    // Where memory runs out, this process is the one to go. Not every machine lets it say so.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    limit(Resource::Core, 0)?;
    limit(Resource::Fsize, 0)?;
    limit(Resource::Data, MEMORY_BYTES)?;
    let mut checker = Checker::new()?;
    seal()?;
    let (mut input, mut output) = (std::io::stdin().lock(), std::io::stdout().lock());
    output.write_all(&[READY]).and_then(|()| output.flush()).map_err(fail)?;
    while let Some(request) = read_frame(&mut input).map_err(fail)? {
        let answer = answer(&mut checker, &request);
        let bytes = serde_json::to_vec(&answer).map_err(|error| fail(error.into()))?;
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        output.write_all(&length.to_be_bytes()).map_err(fail)?;
        output.write_all(&bytes).and_then(|()| output.flush()).map_err(fail)?;
    }
    Ok(())
}

fn limit(resource: Resource, most: u64) -> Result<(), TaskFailure> {
    setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })
        .map_err(|error| TaskFailure::from_io(&error.into(), "limit what the worker may use"))
}

fn read_frame(input: &mut impl Read) -> std::io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    match input.read_exact(&mut length) {
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    let mut frame = vec![0; u32::from_be_bytes(length) as usize];
    input.read_exact(&mut frame)?;
    Ok(Some(frame))
}

fn answer(checker: &mut Checker, request: &[u8]) -> Answer {
    let request: CheckRequest = match serde_json::from_slice(request) {
        Ok(request) => request,
        // What is wrong is told by its place: the text is a person's.
        Err(error) => {
            let (line, column) = (error.line(), error.column());
            return Answer::NotUnderstood(format!(
                "the request cannot be understood at line {line} column {column}: is the checker as new as who asks?"
            ));
        }
    };
    if let Err(error) = pintail_protocol::check_format("the request", request.format) {
        return Answer::NotUnderstood(error.to_string());
    }
    match checker.check(&request) {
        Ok(response) => Answer::Checked(response),
        Err(failure) => Answer::Failed(failure.to_string()),
    }
}

/// A worker, from the server's side. It ends when it is dropped.
pub(super) struct Worker {
    // Held to end with it.
    child: Child,
    input: ChildStdin,
    output: ChildStdout,
    checks_left: u32,
}

impl Worker {
    /// # Errors
    /// Where the machine starts no process, or DuckDB does not come up.
    pub async fn start() -> Result<Self, NotChecked> {
        let cannot = |why: &dyn std::fmt::Display| NotChecked::Unavailable(format!("no worker can start: {why}"));
        let program = std::env::current_exe().map_err(|error| cannot(&error))?;
        let mut command = Command::new(program);
        command.arg("check-worker").arg("--parent-pid").arg(std::process::id().to_string());
        command.env_clear().current_dir("/").kill_on_drop(true);
        // Where the engine's library is, for builds that do not have it beside them.
        command.envs(std::env::var_os("LD_LIBRARY_PATH").map(|path| ("LD_LIBRARY_PATH", path)));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().map_err(|error| cannot(&error))?;
        let (Some(input), Some(mut output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(cannot(&"it has no pipes"));
        };
        match timeout(START_TIME, output.read_u8()).await {
            Ok(Ok(READY)) => Ok(Self { child, input, output, checks_left: CHECKS_OF_A_WORKER }),
            Ok(Ok(_)) => Err(cannot(&"it speaks of something else")),
            Ok(Err(error)) => Err(cannot(&error)),
            Err(_) => Err(cannot(&"it takes too long")),
        }
    }

    /// Asks, and gives the worker back where it can be asked again.
    pub async fn ask(mut self, request: &[u8]) -> (Option<Self>, Result<Bytes, NotChecked>) {
        let before = self.processor_time();
        let answer = match timeout(CHECK_TIME, self.exchange(request)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => {
                let why = "the check needed more memory than there is for one, or brought the checker down".to_owned();
                return (None, Err(NotChecked::Failed(why)));
            }
            Err(_) => return (None, Err(self.too_long(before))),
        };
        self.checks_left = self.checks_left.saturating_sub(1);
        match answer {
            Answer::Checked(response) => match serde_json::to_vec(&response) {
                Ok(bytes) => ((self.checks_left > 0).then_some(self), Ok(bytes.into())),
                Err(error) => (None, Err(NotChecked::Failed(error.to_string()))),
            },
            Answer::NotUnderstood(why) => (Some(self), Err(NotChecked::NotUnderstood(why))),
            // What state it is in is not known.
            Answer::Failed(why) => (None, Err(NotChecked::Failed(why))),
        }
    }

    /// Why there is no answer in time; `before` is the worker's processor time when it was asked.
    fn too_long(&self, before: Option<Duration>) -> NotChecked {
        let why = format!("the check took more than {} seconds", CHECK_TIME.as_secs());
        let used = self.processor_time().zip(before).map(|(now, before)| now.saturating_sub(before));
        match used.filter(|used| *used < LEAST_PROCESSOR_TIME) {
            Some(used) => {
                NotChecked::Slow(format!("{why}, of which the machine gave it {} ms to run", used.as_millis()))
            }
            None => NotChecked::Failed(why),
        }
    }

    /// Of a processor, since it started: proc_pid_stat(5). None where it is gone.
    fn processor_time(&self) -> Option<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()?)).ok()?;
        // The name before may hold anything; of what follows it user and system time are the 12th and 13th.
        let (_, fields) = stat.rsplit_once(')')?;
        let ticks: u64 = fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
        // Linux gives hundredths of a second to programs, whatever its own clock.
        Some(Duration::from_millis(ticks * 10))
    }

    async fn exchange(&mut self, request: &[u8]) -> std::io::Result<Answer> {
        debug_assert!(request.len() <= CHECK_BYTES);
        let length = u32::try_from(request.len()).map_err(std::io::Error::other)?;
        self.input.write_u32(length).await?;
        self.input.write_all(request).await?;
        self.input.flush().await?;
        let length = self.output.read_u32().await?;
        if length > RESPONSE_BYTES {
            return Err(std::io::Error::other("the answer is too long"));
        }
        let mut answer = vec![0; length as usize];
        self.output.read_exact(&mut answer).await?;
        serde_json::from_slice(&answer).map_err(std::io::Error::other)
    }
}
