//! How often one client may ask.
//!
//! Each client has a bucket of tokens that fills by itself, kept as one number: the moment at which it will be full again
//! (the generic cell rate algorithm).

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use moka::sync::Cache as Moka;
use tokio::time::Instant;

/// Clients that are remembered, about 10 MB of them. With more, those that ask least start anew.
const MAX_CLIENTS: u64 = 65_536;

/// Most requests of one client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Requests a second, over time.
    pub per_second: u32,
    /// Requests at once, after a pause: a page with all its parts.
    pub burst: u32,
}

/// How fast buckets fill, and how large they are. A bucket is when it will be full, in nanoseconds since `start`.
#[derive(Debug)]
pub(crate) struct Pace {
    start: Instant,
    /// Time in which one token comes.
    interval: Duration,
    /// Time in which an empty bucket fills.
    capacity: Duration,
}

impl Pace {
    pub(crate) fn new(interval: Duration, burst: u32) -> Self {
        Self { start: Instant::now(), interval, capacity: interval * burst.max(1) }
    }

    /// Takes a token, or says how long to wait for the next.
    pub(crate) fn take(&self, bucket: &AtomicU64) -> Result<(), Duration> {
        let now = nanos(self.start.elapsed());
        let (interval, capacity) = (nanos(self.interval), nanos(self.capacity));
        let after = |full_at: u64| full_at.max(now).saturating_add(interval);
        let taken = bucket.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |full_at| {
            let full_at = after(full_at);
            (full_at - now <= capacity).then_some(full_at)
        });
        taken.map(drop).map_err(|full_at| Duration::from_nanos(after(full_at) - now - capacity))
    }
}

/// The buckets of all clients.
#[derive(Debug)]
pub(crate) struct Buckets {
    pace: Pace,
    clients: Moka<IpAddr, Arc<AtomicU64>>,
}

impl Buckets {
    pub(crate) fn new(rate: Rate) -> Self {
        let pace = Pace::new(Duration::from_secs(1) / rate.per_second.max(1), rate.burst);
        // A full bucket is as good as none.
        let idle = pace.capacity.max(Duration::from_secs(1));
        Self { pace, clients: Moka::builder().max_capacity(MAX_CLIENTS).time_to_idle(idle).build() }
    }

    /// Takes a token of a client, or says how long to wait for the next.
    pub(crate) fn take(&self, client: IpAddr) -> Result<(), Duration> {
        self.pace.take(&self.clients.get_with(network(client), Arc::default))
    }
}

/// Whom an address stands for: a network of IPv6 is one client, which has all its addresses.
fn network(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V6(address) => {
            const PREFIX: u128 = !0 << 64;
            Ipv6Addr::from_bits(address.to_bits() & PREFIX).into()
        }
        address @ IpAddr::V4(_) => address,
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_passes_and_then_one_request_for_each_interval() {
        let buckets = Buckets::new(Rate { per_second: 2, burst: 5 });
        let client = address("192.0.2.1");
        for _ in 0..5 {
            assert_eq!(buckets.take(client), Ok(()));
        }
        assert_eq!(buckets.take(client), Err(Duration::from_millis(500)));
        tokio::time::advance(Duration::from_millis(500)).await;
        assert_eq!(buckets.take(client), Ok(()));
        assert_eq!(buckets.take(client), Err(Duration::from_millis(500)));
        // However long it waits, it has no more than a burst.
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert_eq!((0..10).filter(|_| buckets.take(client).is_ok()).count(), 5);
    }

    #[test]
    fn clients_are_told_apart_and_a_network_of_ipv6_is_one_client() {
        let buckets = Buckets::new(Rate { per_second: 1, burst: 1 });
        for client in ["192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8:0:1::1"] {
            assert_eq!(buckets.take(address(client)), Ok(()), "{client}");
        }
        for client in ["::ffff:192.0.2.1", "2001:db8::ffff:2"] {
            assert!(buckets.take(address(client)).is_err(), "{client}");
        }
    }
}
