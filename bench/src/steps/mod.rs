//! From the end of one step to the pod of the next: the operator against a null controller, both on the same API server
//! with the same stub kubelet. Of the null controller there are two: one creates pods that hold nothing, the other such as
//! the operator's, so that what it and the operator differ in is the controller alone.
//!
//! ```text
//! kubelet: watch pods ─> commit the result ─> patch "Succeeded" ─ acknowledged ┐
//!                                                                              │ gap
//! controller ─> create the pod of the next step ─> kubelet sees it ────────────┘
//! ```

mod kubelet;
mod null;
mod operator;
pub mod process;
mod server;

use std::time::{Duration, Instant};

use crate::measure::Failure;
use crate::program::scratch;
use kubelet::{Gaps, OPERATOR};
use null::Null;
use process::Usage;

pub use kubelet::Kubelet;
pub use null::null_controller;
pub use operator::{Operator, create, kind};
pub use server::ApiServer;

/// First argument of the process that is the rival.
pub const NULL_CONTROLLER: &str = "null-controller";
/// The null controller with pods that hold nothing, and the one with such as the operator's.
const RIVALS: [&str; 2] = ["null", "null-same-pods"];

/// Steps of a chain, each with the one before as its input.
const STEPS: usize = 10;
/// Rounds of either rival, taken in turn.
const ROUNDS: usize = 7;
/// Chains of a round, one after another.
const CHAINS_ALONE: usize = 5;
/// Chains of a round, all at once.
const CHAINS_TOGETHER: usize = 500;
/// Rounds with many chains: each has 5,000 tasks.
const ROUNDS_TOGETHER: usize = 3;
/// After which a chain counts as stuck.
pub const DEADLINE: Duration = Duration::from_secs(300);

pub fn run() -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.map_err(|error| format!("cannot start threads: {error}"))?.block_on(compare())
}

async fn compare() -> Result<(), Failure> {
    let folder = scratch()?;
    let server = ApiServer::start()?;
    let client = server.client().await?;
    let kubelet = Kubelet::start(client.clone(), folder.path()).await?;
    let operator = Operator::start(&server, &client, folder.path()).await?;
    let pod = kubelet.operator_pod().ok_or("the operator created no pod")?;
    let pods = [null::bare_pod(), null::like(&pod)];
    let nulls = RIVALS.into_iter().zip(pods).map(|(rival, pod)| Null::start(&server, &client, rival, pod));
    let nulls = nulls.collect::<Result<Vec<_>, _>>()?;

    println!("Steps: chains of {STEPS} tasks, from the end of a step to the pod of the next");
    for (chains, together, rounds) in [(CHAINS_ALONE, false, ROUNDS), (CHAINS_TOGETHER, true, ROUNDS_TOGETHER)] {
        let (mut ours, mut theirs) = (Side::default(), RIVALS.map(|_| Side::default()));
        for round in 0..=rounds {
            let name = format!("{}{round}", if together { "t" } else { "a" });
            let measured_ours = Round::of_operator(&operator, &kubelet, &name, chains, together).await?;
            let mut measured_theirs = Vec::new();
            for null in &nulls {
                measured_theirs.push(Round::of_null(null, &kubelet, &name, chains, together).await?);
            }
            // The first is to warm up.
            if round > 0 {
                ours.rounds.push(measured_ours);
                theirs.iter_mut().zip(measured_theirs).for_each(|(side, measured)| side.rounds.push(measured));
            }
        }
        print(chains, together, &ours, &theirs);
    }
    println!("  requests a task by the operator: {}", operator.requests_per_task(kubelet.finished(OPERATOR)).await?);
    println!("  bytes stored a task: {}", operator.stored_bytes_per_task().await?);
    Ok(())
}

/// What one controller took for one round.
struct Round {
    gaps: Gaps,
    makespan: Duration,
    usage: Usage,
    tasks: usize,
}

impl Round {
    async fn of_operator(
        operator: &Operator,
        kubelet: &Kubelet,
        name: &str,
        chains: usize,
        together: bool,
    ) -> Result<Self, Failure> {
        let (before, start) = (operator.process.usage()?, Instant::now());
        let names: Vec<String> = (0..chains).map(|chain| format!("{name}-{chain}")).collect();
        if together {
            operator.submit(&names).await?;
            operator.wait(&names).await?;
        } else {
            for name in names.chunks(1) {
                operator.submit(name).await?;
                operator.wait(name).await?;
            }
        }
        let usage = operator.process.usage()?.since(before);
        Ok(Self { gaps: kubelet.take_gaps(OPERATOR), makespan: start.elapsed(), usage, tasks: chains * STEPS })
    }

    async fn of_null(
        null: &Null,
        kubelet: &Kubelet,
        name: &str,
        chains: usize,
        together: bool,
    ) -> Result<Self, Failure> {
        let (before, start) = (null.process.usage()?, Instant::now());
        let names: Vec<String> = (0..chains).map(|chain| format!("{name}-{chain}")).collect();
        for names in names.chunks(if together { chains } else { 1 }) {
            null.submit(names).await?;
            kubelet.wait_for_steps(null.rival, names.len() * STEPS).await?;
        }
        let (makespan, usage) = (start.elapsed(), null.process.usage()?.since(before));
        null.delete_pods().await?;
        Ok(Self { gaps: kubelet.take_gaps(null.rival), makespan, usage, tasks: chains * STEPS })
    }
}

/// All rounds of one controller.
#[derive(Default)]
struct Side {
    rounds: Vec<Round>,
}

impl Side {
    /// Of the rounds' values the median.
    fn median(&self, value: impl Fn(&Round) -> f64) -> f64 {
        let mut values: Vec<f64> = self.rounds.iter().map(value).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or_default()
    }
}

/// What a row shows of a round.
type Value<'a> = &'a dyn Fn(&Round) -> f64;

fn print(chains: usize, together: bool, ours: &Side, theirs: &[Side]) {
    let how = if together { "at once" } else { "one after another" };
    println!("  {chains} chains {how}, medians of {} rounds", ours.rounds.len());
    let milliseconds = |duration: Duration| duration.as_secs_f64() * 1e3;
    let rows: [(&str, &str, Value); 5] = [
        ("gap, p50", "ms", &|round| milliseconds(round.gaps.percentile(50))),
        ("gap, p99", "ms", &|round| milliseconds(round.gaps.percentile(99))),
        ("makespan", "s", &|round| round.makespan.as_secs_f64()),
        ("controller's processor time a task", "ms", &|round| milliseconds(round.usage.processor) / round.tasks as f64),
        ("controller's greatest memory", "MiB", &|round| round.usage.memory_bytes as f64 / (1 << 20) as f64),
    ];
    for (what, unit, value) in rows {
        let ours = ours.median(value);
        let theirs = RIVALS.iter().zip(theirs).map(|(rival, side)| {
            let theirs = side.median(value);
            format!("; {rival} {theirs:.2} {unit}, ratio {:.2}", ours / theirs)
        });
        println!("    {what}: {ours:.2} {unit}{}", theirs.collect::<String>());
    }
}
