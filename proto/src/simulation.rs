//! Simulated networks: how many there are, and all cores for them.

/// Networks of each kind, each from its number; `CAIRN_TEST_SEEDS` changes how many. A failure prints its number, and
/// `CAIRN_TEST_SEED` makes the network of that number alone, which repeats it.
const SEEDS: u64 = 400;

/// Runs every network of a kind.
#[expect(clippy::disallowed_methods, reason = "how many is told from outside, and all cores help")]
pub(crate) fn every_seed(run: fn(u64)) {
    let number = |name| std::env::var(name).ok().map(|text| text.parse().unwrap());
    if let Some(seed) = number("CAIRN_TEST_SEED") {
        return run(seed);
    }
    let seeds = number("CAIRN_TEST_SEEDS").unwrap_or(SEEDS);
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for core in 0..cores {
            scope.spawn(move || (core as u64..seeds).step_by(cores).for_each(run));
        }
    });
    println!("networks simulated: {seeds}");
}
