//! The node: owns disk, peers and time. Serves no HTTP, prints nothing, reads no environment.
//!
//! Read [`node`] first, then follow the rows down: `dag`, `gc`, `repair` and `kubo`, `blocks`, `pins` and `names`, `exchange`,
//! `routing`, then `store` and `swarm`, which do not know each other.

pub mod blocks;
pub mod builder;
pub mod dag;
pub mod denylists;
pub mod error;
pub mod exchange;
pub mod gc;
pub mod kubo;
pub mod names;
pub mod node;
pub mod pin_queue;
pub mod pins;
pub mod provide;
pub mod repair;
pub mod routing;
pub mod settings;
pub mod store;
pub mod swarm;
pub mod tasks;
pub mod web;

pub use error::{Error, Kind, Result};
pub use node::Node;
