//! Bitswap: the messages that peers exchange.

pub mod client;
pub mod message;
pub mod server;

/// A connected peer, for as long as it stays connected. Whoever keeps the connections gives out the numbers, each once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerKey(pub u64);
