//! Attempts as processes of `pintail-runner`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use pintail_engine::TaskIndex;
use pintail_protocol::{SecretVariable, TerminationMessage, WorkOrder};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

/// How long a runner that was told to stop may take before it is killed.
const GRACE: Duration = Duration::from_secs(10);
/// The last lines of its log that are kept for the message about a runner that ended without a word.
const LAST_LINES: usize = 20;

/// How an attempt's process ended.
#[derive(Debug)]
pub struct Ended {
    pub task: TaskIndex,
    pub attempt: u32,
    pub exit_code: Option<i32>,
    pub termination: Option<TerminationMessage>,
    pub last_lines: Vec<String>,
}

/// A started attempt.
pub struct Runner {
    pub attempt: u32,
    process_id: Option<u32>,
    killer: Option<JoinHandle<()>>,
}

/// What every runner is started with.
pub struct RunnerProgram {
    program: PathBuf,
    /// Values of secrets by variable, from Secret manifests and the environment.
    secrets: BTreeMap<String, String>,
    /// Orders and termination messages; gone with the process.
    folder: tempfile::TempDir,
}

impl RunnerProgram {
    /// Finds `pintail-runner` beside this program.
    pub fn find(secrets: BTreeMap<String, String>) -> Result<Self, String> {
        let own = std::env::current_exe().map_err(|error| format!("cannot find this program's own path: {error}"))?;
        let program = own.with_file_name("pintail-runner");
        if !program.is_file() {
            return Err(format!("cannot find {}: `make build` makes it", program.display()));
        }
        let folder = tempfile::Builder::new()
            .prefix("pintail-")
            .tempdir()
            .map_err(|error| format!("cannot make a temporary folder: {error}"))?;
        Ok(Self { program, secrets, folder })
    }

    /// Starts an attempt. The future gives how it ended.
    pub fn start(
        &self,
        task: TaskIndex,
        attempt: u32,
        order: &WorkOrder,
        pod_uid: &str,
    ) -> Result<(Runner, impl Future<Output = Ended> + use<>), String> {
        let order_path = self.folder.path().join(format!("{pod_uid}.order"));
        let termination_path = self.folder.path().join(format!("{pod_uid}.termination"));
        let text = serde_json::to_vec(order).map_err(|error| error.to_string())?;
        std::fs::write(&order_path, text)
            .map_err(|error| format!("cannot write the work order {}: {error}", order_path.display()))?;
        let mut command = Command::new(&self.program);
        command
            .args(["run", "--pod-uid", pod_uid, "--parent-pid", &std::process::id().to_string(), "--order"])
            .arg(&order_path)
            .arg("--termination-message")
            .arg(&termination_path)
            .env_clear()
            .envs(self.environment(order))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            // Ctrl-C reaches this process alone, which then tells its runners.
            .process_group(0)
            .kill_on_drop(true);
        let child = command.spawn().map_err(|error| format!("cannot start {}: {error}", self.program.display()))?;
        let runner = Runner { attempt, process_id: child.id(), killer: None };
        Ok((runner, wait(task, attempt, child, order_path, termination_path)))
    }

    /// A runner gets what libraries read for themselves, and the secrets that its order names.
    fn environment(&self, order: &WorkOrder) -> Vec<(String, String)> {
        const PASSED: [&str; 5] = ["PATH", "HOME", "TMPDIR", "PINTAIL_EXTENSIONS_DIR", "LD_LIBRARY_PATH"];
        let passed = |name: &str| PASSED.contains(&name) || name.starts_with("AWS_") || name.starts_with("SSL_CERT_");
        let mut variables: Vec<_> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, _)| passed(name))
            .collect();
        let secrets = order.connections.iter().flat_map(|connection| connection.target.secret_variables());
        for SecretVariable(variable) in secrets {
            if let Some(value) = self.secrets.get(variable) {
                variables.push((variable.clone(), value.clone()));
            }
        }
        variables
    }
}

impl Runner {
    /// Tells the attempt to stop, and kills it when it does not.
    pub fn stop(&mut self) {
        let Some(process_id) = self.process_id else { return };
        if self.killer.is_none() {
            signal(process_id, rustix::process::Signal::TERM);
            self.killer = Some(tokio::spawn(async move {
                tokio::time::sleep(GRACE).await;
                signal(process_id, rustix::process::Signal::KILL);
            }));
        }
    }

    /// Kills the attempt at once.
    pub fn kill(&mut self) {
        if let Some(process_id) = self.process_id {
            signal(process_id, rustix::process::Signal::KILL);
        }
    }
}

impl Drop for Runner {
    /// The process has ended, and its number may soon be another's.
    fn drop(&mut self) {
        if let Some(killer) = &self.killer {
            killer.abort();
        }
    }
}

fn signal(process_id: u32, signal: rustix::process::Signal) {
    let process_id = i32::try_from(process_id).ok().and_then(rustix::process::Pid::from_raw);
    if let Some(process_id) = process_id {
        // It may have ended by itself meanwhile; then there is nothing to stop.
        let _ = rustix::process::kill_process(process_id, signal);
    }
}

async fn wait(task: TaskIndex, attempt: u32, mut child: Child, order: PathBuf, termination: PathBuf) -> Ended {
    let last_lines = match child.stderr.take() {
        Some(stderr) => last_lines(stderr).await,
        None => Vec::new(),
    };
    let exit_code = child.wait().await.ok().and_then(|status| status.code());
    let message = read_termination(&termination);
    for path in [order, termination] {
        // Both are in a temporary folder that goes with this process anyway.
        let _ = std::fs::remove_file(path);
    }
    Ended { task, attempt, exit_code, termination: message, last_lines }
}

async fn last_lines(stderr: tokio::process::ChildStderr) -> Vec<String> {
    let mut lines = BufReader::new(stderr).lines();
    let mut kept = std::collections::VecDeque::new();
    while let Ok(Some(line)) = lines.next_line().await {
        if kept.len() == LAST_LINES {
            kept.pop_front();
        }
        kept.push_back(line);
    }
    kept.into()
}

fn read_termination(path: &Path) -> Option<TerminationMessage> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}
