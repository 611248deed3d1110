//! Times of rivals, taken in turn so that a slow moment of the machine meets both.

use std::fmt;
use std::time::{Duration, Instant};

/// What goes wrong in a benchmark, for a person.
pub type Failure = String;

/// Times of one rival.
#[derive(Clone, Debug)]
pub struct Times(Vec<Duration>);

impl Times {
    /// Of at least one time.
    pub fn new(mut times: Vec<Duration>) -> Self {
        times.sort();
        Self(times)
    }

    pub fn median(&self) -> Duration {
        self.0.get(self.0.len() / 2).copied().unwrap_or_default()
    }

    pub fn percentile(&self, percent: usize) -> Duration {
        let index = self.0.len().saturating_sub(1) * percent / 100;
        self.0.get(index).copied().unwrap_or_default()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The median as a multiple of another's.
    pub fn ratio(&self, other: &Self) -> f64 {
        self.median().as_secs_f64() / other.median().as_secs_f64()
    }
}

/// `1.23 s (1.20 s to 1.31 s)`: median, least and greatest.
impl fmt::Display for Times {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (least, greatest) = (self.0.first().copied(), self.0.last().copied());
        let [median, least, greatest] =
            [self.median(), least.unwrap_or_default(), greatest.unwrap_or_default()].map(text);
        write!(formatter, "{median} ({least} to {greatest})")
    }
}

/// A time with the unit that suits it.
pub fn text(time: Duration) -> String {
    match time.as_secs_f64() {
        seconds if seconds >= 1.0 => format!("{seconds:.2} s"),
        seconds if seconds >= 1e-3 => format!("{:.1} ms", seconds * 1e3),
        seconds if seconds >= 1e-6 => format!("{:.1} µs", seconds * 1e6),
        seconds => format!("{:.0} ns", seconds * 1e9),
    }
}

/// Runs `ours` and `theirs` in turn, once to warm up and then `rounds` times.
pub fn in_turn(
    rounds: usize,
    mut ours: impl FnMut() -> Result<(), Failure>,
    mut theirs: impl FnMut() -> Result<(), Failure>,
) -> Result<(Times, Times), Failure> {
    ours()?;
    theirs()?;
    let (mut our_times, mut their_times) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        our_times.push(time(&mut ours)?);
        their_times.push(time(&mut theirs)?);
    }
    Ok((Times::new(our_times), Times::new(their_times)))
}

fn time(work: &mut impl FnMut() -> Result<(), Failure>) -> Result<Duration, Failure> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed())
}
