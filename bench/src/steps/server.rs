//! A real API server of the benchmark's own.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use crate::measure::Failure;
use crate::program::{root, succeed};

/// Ends with the benchmark: its input closes.
pub struct ApiServer {
    child: Child,
    kubeconfig: PathBuf,
    kubectl: PathBuf,
}

impl ApiServer {
    /// Returns when it is ready and knows the kinds of Pintail.
    pub fn start() -> Result<Self, Failure> {
        let kubectl = programs()?.join("kubectl");
        let mut command = Command::new(root().join("scripts/cluster"));
        command.arg("api-only").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(|error| format!("{command:?}: {error}"))?;
        let output = child.stdout.take().ok_or("scripts/cluster api-only has no output")?;
        let mut kubeconfig = None;
        for line in BufReader::new(output).lines() {
            let line = line.map_err(|error| format!("scripts/cluster api-only: {error}"))?;
            if let Some(path) = line.strip_prefix("KUBECONFIG=") {
                kubeconfig = Some(PathBuf::from(path));
            }
            if line == "ready" {
                break;
            }
        }
        let kubeconfig = kubeconfig.ok_or("scripts/cluster api-only ended before it was ready")?;
        let server = Self { child, kubeconfig, kubectl };
        server.kubectl(&["apply", "--server-side", "--filename", &root().join("crds").display().to_string()])?;
        server.kubectl(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=30s"])?;
        Ok(server)
    }

    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// A client without limits of its own.
    pub async fn client(&self) -> Result<Client, Failure> {
        let kubeconfig = Kubeconfig::read_from(&self.kubeconfig).map_err(|error| error.to_string())?;
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
        Client::try_from(config.map_err(|error| error.to_string())?).map_err(|error| error.to_string())
    }

    fn kubectl(&self, arguments: &[&str]) -> Result<(), Failure> {
        succeed(Command::new(&self.kubectl).args(arguments).env("KUBECONFIG", &self.kubeconfig))
    }
}

/// Where the programs of the test cluster are, once they are built.
fn programs() -> Result<PathBuf, Failure> {
    let output = Command::new(root().join("scripts/cluster")).arg("build").stderr(Stdio::inherit()).output();
    let output = output.map_err(|error| format!("scripts/cluster build: {error}"))?;
    Ok(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()))
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}
