//! Bytes in both directions, in all and a second.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::lock;

/// Time over which the bytes a second are told: about the last quarter of a minute.
const MEMORY: Duration = Duration::from_secs(5);

/// Bytes in both directions.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Flow {
    /// Received since the start.
    pub received_bytes: u64,
    /// Sent since the start.
    pub sent_bytes: u64,
    /// Received lately, a second.
    pub received_rate: f64,
    /// Sent lately, a second.
    pub sent_rate: f64,
}

/// Counts them.
#[derive(Debug, Default)]
pub(super) struct Meter(Mutex<[Counter; 2]>);

#[derive(Debug, Default)]
struct Counter {
    total_bytes: u64,
    /// Bytes that are still remembered: each is forgotten little by little.
    recent_bytes: f64,
    at: Option<Instant>,
}

impl Meter {
    pub(super) fn received(&self, len_bytes: usize, now: Instant) {
        lock(&self.0)[0].add(len_bytes, now);
    }

    pub(super) fn sent(&self, len_bytes: usize, now: Instant) {
        lock(&self.0)[1].add(len_bytes, now);
    }

    pub(super) fn flow(&self, now: Instant) -> Flow {
        let mut counters = lock(&self.0);
        let [received_rate, sent_rate] = [0, 1].map(|index| counters[index].rate(now));
        let [received, sent] = &*counters;
        Flow { received_bytes: received.total_bytes, sent_bytes: sent.total_bytes, received_rate, sent_rate }
    }
}

impl Counter {
    fn add(&mut self, len_bytes: usize, now: Instant) {
        self.forget(now);
        self.total_bytes += len_bytes as u64;
        self.recent_bytes += len_bytes as f64;
    }

    fn rate(&mut self, now: Instant) -> f64 {
        self.forget(now);
        self.recent_bytes / MEMORY.as_secs_f64()
    }

    fn forget(&mut self, now: Instant) {
        let elapsed = self.at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        self.recent_bytes *= (-elapsed.as_secs_f64() / MEMORY.as_secs_f64()).exp();
        if self.recent_bytes < 1.0 {
            self.recent_bytes = 0.0;
        }
        self.at = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_add_up_and_the_rate_comes_near_to_what_flows() {
        let (meter, start) = (Meter::default(), Instant::now());
        for tick in 0..600 {
            let now = start + Duration::from_millis(100 * tick);
            meter.received(100, now);
            meter.sent(10, now);
        }
        let flow = meter.flow(start + Duration::from_secs(60));
        assert_eq!((flow.received_bytes, flow.sent_bytes), (60_000, 6_000));
        assert!((flow.received_rate - 1000.0).abs() < 20.0, "{flow:?}");
        assert!((flow.sent_rate - 100.0).abs() < 2.0, "{flow:?}");
        let later = meter.flow(start + Duration::from_secs(180));
        assert_eq!((later.received_rate, later.received_bytes), (0.0, 60_000));
    }
}
