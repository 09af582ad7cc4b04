//! Telling a DHT everything that a node has, again and again, without asking for the way to every single key.
//!
//! Keys and peers lie in one keyspace, and records of neighbouring keys are kept by the same peers. So the node goes
//! through the keyspace once per interval ([`Schedule`]); where it has keys, it finds all peers of the region around
//! them ([`Explorer`]), and gives each peer the records of all keys that are closest to it ([`closest`]).
//! Lookups are as many as the network has peers, not as the node has keys. One key alone, which is to be found at once, is
//! told by an [`Announcer`].
//!
//! Source of the method: the sweeping provider of go-libp2p-kad-dht (`provider/`). Nothing here knows a clock or a peer's
//! address: read [`Schedule`] first.

mod announce;
mod explore;
mod key;
mod schedule;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

pub use announce::{Announcer, Call};
pub use explore::{Ask, Explored, Explorer};
pub use key::{Key, Prefix, closest};
pub use schedule::{Cycle, Schedule, Step};

/// Peers that keep a record. Source: Kademlia's k; go-libp2p-kad-dht `amino` defaults (20).
pub const REPLICATION: usize = 20;
