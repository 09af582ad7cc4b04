//! What an operator may want to count, as plain numbers. No label is ever a host, a path or a client.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::StatusCode;

/// Upper bounds of the classes of waiting times, in milliseconds.
const BOUNDS_MS: [u64; 12] = [5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000];

/// Counters of one gateway.
#[derive(Debug)]
pub(crate) struct Metrics {
    /// Responses by status, from 100 on.
    statuses: Box<[AtomicU64]>,
    /// Responses that had their first byte within each of [`BOUNDS_MS`] and not within the one before, and the others.
    waits: [AtomicU64; BOUNDS_MS.len() + 1],
    wait_micros: AtomicU64,
    active: AtomicU64,
    sent_bytes: AtomicU64,
    cut: AtomicU64,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            statuses: (100..1000).map(|_| AtomicU64::default()).collect(),
            waits: Default::default(),
            wait_micros: AtomicU64::default(),
            active: AtomicU64::default(),
            sent_bytes: AtomicU64::default(),
            cut: AtomicU64::default(),
        }
    }
}

impl Metrics {
    pub(crate) fn on_start(&self) {
        self.active.fetch_add(1, Ordering::Relaxed);
    }

    /// A response has its head, `wait` after its request.
    pub(crate) fn on_head(&self, status: StatusCode, wait: Duration) {
        add(&self.statuses[usize::from(status.as_u16() - 100)], 1);
        let class = BOUNDS_MS.iter().position(|bound| wait <= Duration::from_millis(*bound));
        add(&self.waits[class.unwrap_or(BOUNDS_MS.len())], 1);
        add(&self.wait_micros, u64::try_from(wait.as_micros()).unwrap_or(u64::MAX));
    }

    /// A response is over.
    pub(crate) fn on_end(&self, sent_bytes: u64, is_cut: bool) {
        self.active.fetch_sub(1, Ordering::Relaxed);
        add(&self.sent_bytes, sent_bytes);
        add(&self.cut, u64::from(is_cut));
    }

    /// The numbers in Prometheus' text format.
    ///
    /// Source: <https://prometheus.io/docs/instrumenting/exposition_formats/>.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        let mut head = |name: &str, kind: &str, help: &str| {
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
            std::mem::take(&mut text)
        };
        let mut page = head("cairn_gateway_responses_total", "counter", "Responses by status.");
        for (status, count) in (100..).zip(&self.statuses).map(|(status, count)| (status, get(count))) {
            if count > 0 {
                let _ = writeln!(page, "cairn_gateway_responses_total{{status=\"{status}\"}} {count}");
            }
        }
        page += &head(
            "cairn_gateway_first_byte_seconds",
            "histogram",
            "Time from a request to the head of its response.",
        );
        let mut total = 0;
        for (bound, count) in BOUNDS_MS.iter().zip(&self.waits) {
            total += get(count);
            let seconds = Duration::from_millis(*bound).as_secs_f64();
            let _ = writeln!(page, "cairn_gateway_first_byte_seconds_bucket{{le=\"{seconds}\"}} {total}");
        }
        total += get(&self.waits[BOUNDS_MS.len()]);
        let sum = Duration::from_micros(get(&self.wait_micros)).as_secs_f64();
        let _ = writeln!(page, "cairn_gateway_first_byte_seconds_bucket{{le=\"+Inf\"}} {total}");
        let _ = writeln!(page, "cairn_gateway_first_byte_seconds_sum {sum}");
        let _ = writeln!(page, "cairn_gateway_first_byte_seconds_count {total}");
        for (name, kind, help, value) in [
            ("cairn_gateway_requests_active", "gauge", "Requests whose response is not over.", &self.active),
            (
                "cairn_gateway_sent_bytes_total",
                "counter",
                "Bytes of bodies that were handed to connections.",
                &self.sent_bytes,
            ),
            (
                "cairn_gateway_responses_cut_total",
                "counter",
                "Responses that ended before they were complete.",
                &self.cut,
            ),
        ] {
            page += &head(name, kind, help);
            let _ = writeln!(page, "{name} {}", get(value));
        }
        page
    }
}

fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

fn get(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_add_up_and_labels_are_few() {
        let metrics = Metrics::default();
        for (status, wait_ms) in [(200, 5), (200, 6), (404, 40_000)] {
            metrics.on_start();
            metrics.on_head(StatusCode::from_u16(status).unwrap(), Duration::from_millis(wait_ms));
        }
        metrics.on_end(10, false);
        metrics.on_end(5, true);
        let text = metrics.text();
        for line in [
            "cairn_gateway_responses_total{status=\"200\"} 2",
            "cairn_gateway_responses_total{status=\"404\"} 1",
            "cairn_gateway_first_byte_seconds_bucket{le=\"0.005\"} 1",
            "cairn_gateway_first_byte_seconds_bucket{le=\"0.01\"} 2",
            "cairn_gateway_first_byte_seconds_bucket{le=\"30\"} 2",
            "cairn_gateway_first_byte_seconds_bucket{le=\"+Inf\"} 3",
            "cairn_gateway_first_byte_seconds_sum 40.011",
            "cairn_gateway_requests_active 1",
            "cairn_gateway_sent_bytes_total 15",
            "cairn_gateway_responses_cut_total 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        assert_eq!(text.matches("# TYPE").count(), 5);
    }
}
