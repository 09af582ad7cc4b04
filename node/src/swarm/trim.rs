//! Which connections end when there are too many. Knows no network: a list in, a list out.

use std::time::{Duration, Instant};

use libp2p::PeerId;
use libp2p::swarm::ConnectionId;

use crate::settings::ConnectionMarks;

/// A connection that may end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Open {
    pub(super) id: ConnectionId,
    pub(super) peer: PeerId,
    pub(super) since: Instant,
    pub(super) is_inbound: bool,
    /// Bytes a second that go between us and the peer.
    pub(super) rate: f64,
}

/// Which of `count` connections to close, of those that may end, so that the low mark is left: those that carry least
/// first, of these the inbound ones, and of these the youngest, so that nobody crowds out old peers by coming often.
pub(super) fn surplus(marks: &ConnectionMarks, count: u32, mut open: Vec<Open>, now: Instant) -> Vec<Open> {
    if count <= marks.high {
        return Vec::new();
    }
    open.retain(|open| now.saturating_duration_since(open.since) >= marks.grace);
    open.sort_by(|a, b| {
        let by_rate = a.rate.total_cmp(&b.rate);
        by_rate.then(b.is_inbound.cmp(&a.is_inbound)).then(b.since.cmp(&a.since))
    });
    open.truncate(usize::try_from(count - marks.low).unwrap_or(usize::MAX));
    open
}

/// Time after which connections are looked at again.
pub(super) fn pause(marks: &ConnectionMarks) -> Duration {
    marks.grace.max(Duration::from_secs(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARKS: ConnectionMarks = ConnectionMarks { low: 2, high: 4, grace: Duration::from_secs(20) };

    /// Connections as (age in seconds, inbound, rate); their number is their ID.
    fn closed(open: &[(u64, bool, f64)]) -> Vec<usize> {
        let start = Instant::now();
        let now = start + Duration::from_secs(1000);
        let open: Vec<_> = open
            .iter()
            .enumerate()
            .map(|(number, (age, is_inbound, rate))| Open {
                id: ConnectionId::new_unchecked(number),
                peer: PeerId::random(),
                since: now - Duration::from_secs(*age),
                is_inbound: *is_inbound,
                rate: *rate,
            })
            .collect();
        let ids: Vec<_> = open.iter().map(|open| open.id).collect();
        let surplus = surplus(&MARKS, u32::try_from(open.len()).unwrap(), open, now);
        surplus.iter().map(|closed| ids.iter().position(|id| *id == closed.id).unwrap()).collect()
    }

    #[test]
    fn nothing_ends_up_to_the_high_mark_and_above_it_the_low_one_is_left() {
        assert!(closed(&[(100, true, 0.0); 4]).is_empty());
        assert_eq!(closed(&[(100, true, 0.0); 5]).len(), 3);
    }

    #[test]
    fn those_that_carry_least_end_first_then_inbound_ones_then_the_youngest() {
        let open = [(900, true, 9.0), (100, false, 0.0), (50, true, 0.0), (90, true, 0.0), (30, false, 5.0)];
        assert_eq!(closed(&open), [2, 3, 1]);
    }

    #[test]
    fn those_within_the_grace_period_stay() {
        assert_eq!(
            closed(&[(19, true, 0.0), (19, true, 0.0), (19, true, 0.0), (19, true, 0.0), (20, true, 9.0)]),
            [4]
        );
    }
}
