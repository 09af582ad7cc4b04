//! Contestants that do the same work in turn, and the tables and samples of it.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::Result;
use serde::Serialize;

use crate::measure::{Cost, settle};

/// Spread of one contestant, (max − min) ÷ median, above which its ratios are marked as noisy.
const NOISY: f64 = 0.15;

/// One who does the work: a name, and a closure that does it once and measures it.
pub(crate) struct Contestant<'a> {
    name: String,
    work: Box<dyn FnMut() -> Result<Cost> + 'a>,
}

impl<'a> Contestant<'a> {
    pub(crate) fn new(name: impl Into<String>, work: impl FnMut() -> Result<Cost> + 'a) -> Self {
        Self { name: name.into(), work: Box::new(work) }
    }
}

/// What came out of one piece of work.
#[derive(Debug, Serialize)]
pub(crate) struct Contest {
    title: String,
    /// The first is ours. The samples of a round have the same index.
    samples: Vec<(String, Vec<Cost>)>,
}

impl Contest {
    /// Lets the contestants work in turn, `rounds` times after one round that does not count.
    pub(crate) fn run(
        title: impl Into<String>,
        rounds: usize,
        contestants: Vec<Contestant<'_>>,
    ) -> Result<Self> {
        let title = title.into();
        let mut contestants = contestants;
        let mut samples: Vec<_> = contestants.iter().map(|one| (one.name.clone(), Vec::new())).collect();
        for round in 0..=rounds {
            for (contestant, (name, costs)) in contestants.iter_mut().zip(&mut samples) {
                settle()?;
                let cost = (contestant.work)()?;
                eprintln!("{title}: round {round}, {name}: {:.2} s", cost.wall_s);
                if round > 0 {
                    costs.push(cost);
                }
            }
        }
        Ok(Self { title, samples })
    }

    /// What was done once, and by one only.
    pub(crate) fn single(title: impl Into<String>, name: &str, cost: Cost) -> Self {
        Self { title: title.into(), samples: vec![(name.to_owned(), vec![cost])] }
    }

    /// Adds a contestant that was, in each round, the slower of two others: a limit that either of them sets.
    pub(crate) fn with_slower_of(mut self, name: &str, first: usize, second: usize) -> Self {
        let slower = |(a, b): (&Cost, &Cost)| if a.wall_s > b.wall_s { *a } else { *b };
        let costs = self.samples[first].1.iter().zip(&self.samples[second].1).map(slower).collect();
        self.samples.push((name.to_owned(), costs));
        self
    }

    /// The medians as Markdown, and the ratio of ours to each other's, round by round.
    pub(crate) fn table(&self) -> String {
        let mut text = format!("### {}\n\n", self.title);
        text.push_str("| | wall s: median (min–max) | CPU s | peak MiB | written MiB | ours ÷ it: wall (min–max) | CPU |\n");
        text.push_str("|---|---|---|---|---|---|---|\n");
        let ours = &self.samples[0].1;
        for (index, (name, costs)) in self.samples.iter().enumerate() {
            let wall = Spread::of(costs.iter().map(|cost| cost.wall_s));
            let cpu = Spread::of(costs.iter().map(|cost| cost.cpu_s));
            let peak = Spread::of(costs.iter().map(|cost| mebibytes(cost.peak_bytes)));
            let written = Spread::of(costs.iter().map(|cost| mebibytes(cost.written_bytes)));
            let _ = write!(
                text,
                "| {name} | {} ({}–{}) | {:.2} | {:.0} | {:.0} |",
                seconds(wall.median),
                seconds(wall.min),
                seconds(wall.max),
                cpu.median,
                peak.median,
                written.median
            );
            if index == 0 {
                text.push_str(" | |\n");
                continue;
            }
            let pairs = || ours.iter().zip(costs);
            let ratio = Spread::of(pairs().map(|(ours, theirs)| ours.wall_s / theirs.wall_s));
            let cpu = Spread::of(pairs().map(|(ours, theirs)| ours.cpu_s / theirs.cpu_s));
            let noisy = if wall.max - wall.min > NOISY * wall.median { " noisy" } else { "" };
            let _ = writeln!(
                text,
                " **{:.2}** ({:.2}–{:.2}){noisy} | {} |",
                ratio.median,
                ratio.min,
                ratio.max,
                // Some work is measured by the clock alone.
                if cpu.median.is_finite() { format!("{:.2}", cpu.median) } else { String::new() }
            );
        }
        text
    }
}

/// Everything that was measured in one run of the program.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    machine: String,
    pub(crate) contests: Vec<Contest>,
}

impl Report {
    pub(crate) fn new(machine: String) -> Self {
        Self { machine, contests: Vec::new() }
    }

    pub(crate) fn save(&self, path: &Path) -> Result<()> {
        fs::write(path, serde_json::to_vec_pretty(self)?)?;
        Ok(())
    }
}

struct Spread {
    median: f64,
    min: f64,
    max: f64,
}

impl Spread {
    /// Of at least one value; `NaN` without.
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut values: Vec<_> = values.collect();
        values.sort_by(f64::total_cmp);
        let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
        let (low, high) = (values.len().saturating_sub(1) / 2, values.len() / 2);
        Self { median: f64::midpoint(at(low), at(high)), min: at(0), max: at(values.len().saturating_sub(1)) }
    }
}

/// Two digits behind the point; of less than a tenth of a second as many as tell microseconds apart in tens.
fn seconds(seconds: f64) -> String {
    if seconds < 0.1 { format!("{seconds:.5}") } else { format!("{seconds:.2}") }
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / 1048576.0
}
