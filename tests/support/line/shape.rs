//! What a line does to packets, as a machine without a clock.

use std::time::{Duration, Instant};

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::LineKind;
use super::tun::HEADER_BYTES;

/// One direction of a line: packets leave one after the other, as fast as the line is, and arrive later.
#[derive(Debug)]
pub(super) struct Shape {
    kind: LineKind,
    random: ChaCha8Rng,
    /// When the last packet that was taken has left.
    free_at: Option<Instant>,
}

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It arrives.
    Arrives(Instant),
    /// It is lost on the way.
    Lost,
    /// The queue before the line is full.
    Dropped,
}

impl Shape {
    pub(super) fn new(kind: LineKind, seed: u64) -> Self {
        Self { kind, random: ChaCha8Rng::seed_from_u64(seed), free_at: None }
    }

    /// Takes a packet that comes now.
    pub(super) fn take(&mut self, wire_bytes: u64, now: Instant) -> Fate {
        if self.random.random_ratio(self.kind.lost_per_mille, 1000) {
            return Fate::Lost;
        }
        let starts_at = self.free_at.map_or(now, |free_at| free_at.max(now));
        if starts_at - now > self.time(self.kind.queue_bytes) {
            return Fate::Dropped;
        }
        let left_at = starts_at + self.time(wire_bytes);
        self.free_at = Some(left_at);
        Fate::Arrives(left_at + self.kind.delay)
    }

    /// How long so many bytes take to leave.
    fn time(&self, bytes: u64) -> Duration {
        Duration::from_nanos(bytes * 8 * 1_000_000_000 / self.kind.bits_per_second)
    }
}

/// Bytes that a packet takes on a line, headers of all its segments included.
pub(super) fn wire_bytes(packet: &[u8]) -> u64 {
    let field = |at: usize| u64::from(u16::from_ne_bytes([packet[at], packet[at + 1]]));
    let (headers_bytes, segment_bytes) = (field(2), field(4));
    let packet_bytes = (packet.len() - HEADER_BYTES) as u64;
    match packet_bytes.saturating_sub(headers_bytes).checked_div(segment_bytes) {
        // Whole segments before the last one, each with headers of its own.
        Some(segment_count) => packet_bytes + segment_count * headers_bytes,
        None => packet_bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: LineKind = LineKind {
        bits_per_second: 8_000_000,
        delay: Duration::from_millis(50),
        queue_bytes: 3000,
        lost_per_mille: 0,
    };

    #[test]
    fn packets_leave_one_after_the_other_and_arrive_later() {
        let (mut shape, now) = (Shape::new(KIND, 1), Instant::now());
        let after = |millis| Fate::Arrives(now + Duration::from_millis(millis));
        assert_eq!(shape.take(1000, now), after(51));
        assert_eq!(shape.take(2000, now), after(53));
        // The line has been free for a while.
        let later = now + Duration::from_millis(10);
        assert_eq!(shape.take(1000, later), after(61));
    }

    #[test]
    fn a_full_queue_takes_no_more_until_the_line_has_caught_up() {
        let (mut shape, now) = (Shape::new(KIND, 1), Instant::now());
        assert_ne!(shape.take(3000, now), Fate::Dropped);
        assert_ne!(shape.take(1000, now), Fate::Dropped);
        assert_eq!(shape.take(1000, now), Fate::Dropped);
        assert_ne!(shape.take(1000, now + Duration::from_millis(1)), Fate::Dropped);
    }

    #[test]
    fn the_same_packets_are_lost_in_every_run_of_a_seed() {
        let now = Instant::now();
        let lost = |seed| {
            let mut shape =
                Shape::new(LineKind { lost_per_mille: 100, queue_bytes: u64::MAX >> 40, ..KIND }, seed);
            (0..1000).filter(|_| shape.take(1, now) == Fate::Lost).count()
        };
        assert_eq!(lost(7), lost(7));
        assert!((50..200).contains(&lost(7)), "{}", lost(7));
        assert_eq!(Shape::new(KIND, 7).random, Shape::new(KIND, 7).random);
    }

    #[test]
    fn every_segment_of_a_packet_has_headers_on_the_line() {
        let packet = |headers: u16, segment: u16, len_bytes: usize| {
            let mut packet = vec![0; HEADER_BYTES + len_bytes];
            packet[2..4].copy_from_slice(&headers.to_ne_bytes());
            packet[4..6].copy_from_slice(&segment.to_ne_bytes());
            wire_bytes(&packet)
        };
        assert_eq!(packet(0, 0, 1500), 1500);
        assert_eq!(packet(40, 1000, 40 + 2500), 3 * 40 + 2500);
    }
}
