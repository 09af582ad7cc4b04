//! A limit of bytes a second that all connections share.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::lock;

/// How much may go at once after a pause, as time at the limit.
const BURST: Duration = Duration::from_millis(250);

/// Tokens for bytes. A taker may take more than there are, once there are any; the next one waits until that is paid back.
#[derive(Debug)]
pub(super) struct Bucket(Option<Mutex<Tokens>>);

#[derive(Debug)]
struct Tokens {
    per_second: f64,
    left: f64,
    at: Instant,
}

impl Bucket {
    pub(super) fn new(per_second: Option<u64>, now: Instant) -> Self {
        let tokens = |per_second: u64| {
            let per_second = per_second.max(1) as f64;
            Mutex::new(Tokens { per_second, left: per_second * BURST.as_secs_f64(), at: now })
        };
        Self(per_second.map(tokens))
    }

    /// How long to wait before bytes may go; nothing if they may go now.
    pub(super) fn wait(&self, now: Instant) -> Option<Duration> {
        let mut tokens = lock(self.0.as_ref()?);
        tokens.refill(now);
        (tokens.left <= 0.0).then(|| Duration::from_secs_f64((1.0 - tokens.left) / tokens.per_second))
    }

    /// Bytes went.
    pub(super) fn take(&self, len_bytes: usize) {
        if let Some(tokens) = &self.0 {
            lock(tokens).left -= len_bytes as f64;
        }
    }

    /// Whether there is a limit.
    pub(super) fn is_limited(&self) -> bool {
        self.0.is_some()
    }
}

impl Tokens {
    fn refill(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.at).as_secs_f64();
        self.left = (self.left + elapsed * self.per_second).min(self.per_second * BURST.as_secs_f64());
        self.at = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_the_long_run_no_more_passes_than_the_limit_says() {
        let start = Instant::now();
        let bucket = Bucket::new(Some(1_000_000), start);
        let (mut now, mut passed) = (start, 0_usize);
        while now < start + Duration::from_secs(10) {
            match bucket.wait(now) {
                Some(wait) => now += wait,
                None => {
                    bucket.take(16_384);
                    passed += 16_384;
                }
            }
        }
        // The burst at the start, and at most one piece more.
        assert!((10_000_000..=10_250_000 + 2 * 16_384).contains(&passed), "{passed}");
    }

    #[test]
    fn a_piece_above_the_burst_passes_and_is_paid_back() {
        let start = Instant::now();
        let bucket = Bucket::new(Some(1000), start);
        assert_eq!(bucket.wait(start), None);
        bucket.take(10_250);
        let wait = bucket.wait(start).unwrap();
        assert!((Duration::from_secs(10)..Duration::from_millis(10_010)).contains(&wait), "{wait:?}");
        assert_eq!(bucket.wait(start + wait), None);
    }

    #[test]
    fn without_a_limit_nobody_waits() {
        let bucket = Bucket::new(None, Instant::now());
        bucket.take(usize::MAX);
        assert_eq!(bucket.wait(Instant::now()), None);
    }
}
