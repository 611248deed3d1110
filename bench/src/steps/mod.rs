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

use crate::measure::{Failure, Times};
use crate::program::scratch;
use kubelet::OPERATOR;
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
/// Rounds of single chains.
const ROUNDS: usize = 9;
/// Chains of a round, one after another: one of each controller in turn, since the speed of machines changes from second to
/// second.
const CHAINS_ALONE: usize = 8;
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
    let sides = Sides { operator: &operator, nulls: &nulls, kubelet: &kubelet };
    for (chains, together, rounds) in [(CHAINS_ALONE, false, ROUNDS), (CHAINS_TOGETHER, true, ROUNDS_TOGETHER)] {
        sides.series(chains, together, rounds).await?;
    }
    println!("  requests a task by the operator: {}", operator.requests_per_task(kubelet.finished(OPERATOR)).await?);
    println!("  bytes stored a task: {}", operator.stored_bytes_per_task().await?);
    Ok(())
}

/// The operator, then each rival.
type Round = Vec<Measured>;

struct Sides<'a> {
    operator: &'a Operator,
    nulls: &'a [Null],
    kubelet: &'a Kubelet,
}

impl Sides<'_> {
    async fn series(&self, chains: usize, together: bool, rounds: usize) -> Result<(), Failure> {
        let word = if together { "t" } else { "a" };
        // To warm up.
        self.round(&format!("{word}w"), chains, together).await?;
        self.operator.wait_until_tidy().await?;
        let (before, mut measured) = (self.usages()?, Vec::new());
        for round in 0..rounds {
            measured.push(self.round(&format!("{word}{round}"), chains, together).await?);
        }
        self.operator.wait_until_tidy().await?;
        let how = if together { "at once" } else { "one after another" };
        println!("  {chains} chains {how}; medians of {rounds} rounds, of ratios also the least and the greatest");
        print(&steady(measured));
        let usages: Vec<Usage> =
            self.usages()?.into_iter().zip(before).map(|(now, before)| now.since(before)).collect();
        print_usages(&usages, rounds * chains * STEPS);
        Ok(())
    }

    /// Of the operator, then of each rival.
    fn usages(&self) -> Result<Vec<Usage>, Failure> {
        let processes = std::iter::once(&self.operator.process).chain(self.nulls.iter().map(|null| &null.process));
        processes.map(|process| process.usage()).collect()
    }

    async fn round(&self, name: &str, chains: usize, together: bool) -> Result<Round, Failure> {
        let names: Vec<String> = (0..chains).map(|chain| format!("{name}-{chain}")).collect();
        let mut round = vec![Measured::default(); 1 + self.nulls.len()];
        for names in names.chunks(if together { chains } else { 1 }) {
            let mut measured = vec![self.of_operator(names).await?];
            if together {
                // It deletes pods a minute after their run: in its own time.
                self.operator.wait_until_tidy().await?;
            }
            for null in self.nulls {
                measured.push(self.of_null(null, names).await?);
            }
            round.iter_mut().zip(measured).for_each(|(sum, measured)| sum.add(measured));
        }
        Ok(round)
    }

    async fn of_operator(&self, names: &[String]) -> Result<Measured, Failure> {
        let start = Instant::now();
        self.operator.submit(names).await?;
        self.operator.wait(names).await?;
        let makespan = start.elapsed();
        // What it does after the end is not to burden whoever comes next.
        self.operator.wait_until_recorded(names).await?;
        Ok(Measured { gaps: self.kubelet.take_gaps(OPERATOR), makespan })
    }

    async fn of_null(&self, null: &Null, names: &[String]) -> Result<Measured, Failure> {
        let start = Instant::now();
        null.submit(names).await?;
        self.kubelet.wait_for_steps(null.rival, names.len() * STEPS).await?;
        let makespan = start.elapsed();
        null.delete_pods().await?;
        Ok(Measured { gaps: self.kubelet.take_gaps(null.rival), makespan })
    }
}

/// Leaves out rounds in which the machine was another than in most: the first rival took a quarter more or less.
fn steady(rounds: Vec<Round>) -> Vec<Round> {
    let floor = |round: &Round| round.get(1).map_or(0.0, |null| null.gap(50).as_secs_f64());
    let usual = median(rounds.iter().map(floor)).middle;
    let (steady, others): (Vec<_>, Vec<_>) =
        rounds.into_iter().partition(|round| (floor(round) - usual).abs() <= usual / 4.0);
    if !others.is_empty() {
        println!(
            "  {} rounds are left out: the null controller's gap was not within a quarter of its median",
            others.len()
        );
    }
    steady
}

/// What one controller took for one round.
#[derive(Clone, Default)]
struct Measured {
    gaps: Vec<Duration>,
    makespan: Duration,
}

impl Measured {
    fn add(&mut self, other: Self) {
        self.gaps.extend(other.gaps);
        self.makespan += other.makespan;
    }

    fn gap(&self, percent: usize) -> Duration {
        Times::new(self.gaps.clone()).percentile(percent)
    }
}

struct Median {
    middle: f64,
    least: f64,
    greatest: f64,
}

fn median(values: impl Iterator<Item = f64>) -> Median {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let at = |index: usize| values.get(index).copied().unwrap_or_default();
    Median { middle: at(values.len() / 2), least: at(0), greatest: at(values.len().saturating_sub(1)) }
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// What a row shows of a controller's round.
type Value<'a> = &'a dyn Fn(&Measured) -> f64;

/// Ratios are of each round, for one round is of one time.
fn print(rounds: &[Round]) {
    let rows: [(&str, &str, Value); 3] = [
        ("gap, p50", "ms", &|side| milliseconds(side.gap(50))),
        ("gap, p99", "ms", &|side| milliseconds(side.gap(99))),
        ("makespan", "s", &|side| side.makespan.as_secs_f64()),
    ];
    for (what, unit, value) in rows {
        let of = |side: usize| rounds.iter().map(move |round| round.get(side).map_or(f64::NAN, value));
        let theirs = (1..).zip(RIVALS).map(|(side, rival)| {
            let Median { middle, least, greatest } = median(of(0).zip(of(side)).map(|(ours, theirs)| ours / theirs));
            format!("; {rival} {:.2} {unit}, ratio {middle:.2} ({least:.2} to {greatest:.2})", median(of(side)).middle)
        });
        println!("    {what}: {:.2} {unit}{}", median(of(0)).middle, theirs.collect::<String>());
    }
}

/// Of all rounds together, until the pods of the last are gone.
fn print_usages(usages: &[Usage], tasks: usize) {
    let milliseconds = usages.iter().map(|usage| milliseconds(usage.processor) / tasks as f64).collect::<Vec<_>>();
    let mebibytes = usages.iter().map(|usage| usage.memory_bytes as f64 / (1 << 20) as f64).collect();
    for (what, unit, values) in
        [("controller's processor time a task", "ms", milliseconds), ("controller's greatest memory", "MiB", mebibytes)]
    {
        let of = |side: usize| values.get(side).copied().unwrap_or(f64::NAN);
        let theirs = (1..)
            .zip(RIVALS)
            .map(|(side, rival)| format!("; {rival} {:.2} {unit}, ratio {:.2}", of(side), of(0) / of(side)));
        println!("    {what}: {:.2} {unit}{}", of(0), theirs.collect::<String>());
    }
}
