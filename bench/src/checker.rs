//! A checker that has been up for a while, as the operator asks it: a workflow of 200 tasks beside one of a single task.

use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use pintail_api::Workflow;
use pintail_execution::{Connections, Datasets, check_request};
use pintail_protocol::{CHECK_PATH, CheckResponse};
use serde_json::{Value, json};

use crate::measure::{self, Failure};
use crate::program::bin;
use crate::steps::process::Process;

const TASKS: usize = 200;
const ROUNDS: usize = 21;
/// For a process to start.
const DEADLINE: Duration = Duration::from_secs(20);

pub fn run() -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("cannot start a thread: {error}"))?;
    let listener = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let address = listener.map_err(|error| format!("no free port: {error}"))?;
    let mut command = Command::new(bin("pintail-runner"));
    command.args(["checker", "--listen", &address.to_string()]).stdin(Stdio::null()).stdout(Stdio::null());
    let checker = Process::start(command.stderr(Stdio::null()))?;
    let client = reqwest::Client::new();
    let page = format!("http://{address}");
    runtime.block_on(until_up(&client, &page))?;
    let url = format!("{page}{CHECK_PATH}");
    let (large, small) = (request(TASKS)?, request(1)?);
    let ask = |body: &Vec<u8>| runtime.block_on(check(&client, &url, body.clone()));
    let (of_large, of_small) = measure::in_turn(ROUNDS, || ask(&large), || ask(&small))?;
    let each_ms = of_large.median().saturating_sub(of_small.median()).as_secs_f64() * 1e3 / (TASKS - 1) as f64;
    let memory_bytes = checker.usage()?.memory_bytes + checker.memory_bytes_of_children()?;
    println!(
        "A warm checker asked about {TASKS} tasks\n  {of_large}\n  about one task: {of_small}; ratio {:.1}\n  each task \
         more: {each_ms:.2} ms; aim: under 5 ms\n  memory of server and worker: {} MiB at most",
        of_large.ratio(&of_small),
        memory_bytes >> 20
    );
    Ok(())
}

async fn until_up(client: &reqwest::Client, page: &str) -> Result<(), Failure> {
    let start = Instant::now();
    while client.get(format!("{page}/healthz")).send().await.is_err() {
        if start.elapsed() > DEADLINE {
            return Err("the checker does not answer".to_owned());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

async fn check(client: &reqwest::Client, url: &str, body: Vec<u8>) -> Result<(), Failure> {
    let explain = |error: reqwest::Error| format!("{url}: {error}");
    let response = client.post(url).body(body).send().await.map_err(explain)?.error_for_status().map_err(explain)?;
    let answer: CheckResponse =
        serde_json::from_slice(&response.bytes().await.map_err(explain)?).map_err(|error| format!("{url}: {error}"))?;
    if answer.findings.is_empty() { Ok(()) } else { Err(format!("SQL that is right was found wrong: {answer:?}")) }
}

fn request(tasks: usize) -> Result<Vec<u8>, Failure> {
    let spec = json!({
        "inputs": [{ "name": "least", "type": "BIGINT", "default": 0 }],
        "tasks": (0..tasks).map(task).collect::<Vec<_>>(),
    });
    let spec = serde_json::from_value(spec).map_err(|error| error.to_string())?;
    let plan = pintail_plan::compile(&Workflow::new("large", spec), &Default::default());
    let plan = plan.map_err(|problems| format!("the workflow is wrong: {problems:?}"))?;
    let request = check_request(&plan, &Connections::new(), &Datasets::new());
    serde_json::to_vec(&request).map_err(|error| error.to_string())
}

/// Of a chain.
fn task(number: usize) -> Value {
    match number.checked_sub(1) {
        None => json!({ "name": "task_0", "uses": ["least"],
            "duckdb": { "query": "SELECT range AS n FROM range(1000) WHERE range > $least" } }),
        Some(before) => json!({ "name": format!("task_{number}"), "uses": [format!("task_{before}"), "least"],
            "duckdb": { "query": format!(
                "SELECT n, count(*) AS rows_of_n FROM task_{before} WHERE n > $least GROUP BY ALL ORDER BY n"
            ) } }),
    }
}
