//! Formats and rules of the network, pure: no async runtime, disk, socket, clock, randomness or environment.
//!
//! Everything here is a value, a parser or a state machine that is given `now` and returns what it needs.
//! Read [`block`] first, then [`walk`] and [`content`].

pub mod bitswap;
pub mod block;
pub mod car;
pub mod cid;
pub mod codec;
pub mod content;
pub mod denylist;
mod hash;
pub mod ipns;
pub mod kad;
pub mod limits;
pub mod path;
pub mod resolve;
pub mod routing;
#[cfg(test)]
mod simulation;
pub mod sweep;
pub mod tar;
pub mod unixfs;
pub mod walk;
