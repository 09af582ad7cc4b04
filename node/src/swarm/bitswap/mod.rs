//! Bitswap's streams: negotiated inside the swarm, then handed out of it.
//!
//! Invariant: no message and no block passes through the swarm's task or a connection's task. [`Behaviour`] and its
//! handler only negotiate; whoever holds the [`Link`] of a peer reads and writes, with [`frame`]. Must not know what a
//! message means.
//!
//! # Wiring
//!
//! `let (behaviour, wire) = swarm::bitswap::new();` — the behaviour becomes a field of the swarm's behaviour and emits no
//! events (its `ToSwarm` is [`std::convert::Infallible`]); the [`Wire`] goes to the exchange. The swarm's idle timeout
//! applies to connections over which nothing is wanted or owed: Bitswap streams do not keep a connection by themselves.

mod behaviour;
pub mod frame;
mod handler;
mod link;

#[cfg(test)]
pub(crate) use behaviour::up_to;
pub use behaviour::{Behaviour, new};
pub use link::{Change, Inbound, KeepAlive, Link, OpenError, Opener, Wire};
