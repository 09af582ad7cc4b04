//! What the scenarios are told with: real nodes as child processes, seeded content, plain tools to compare with.
//!
//! Everything here panics with what was seen, since a test that cannot go on has failed. Every wait has a deadline.
//! Nothing leaves this machine: nodes listen on loopback, know no bootstrap peers, and stop with their handles.

mod data;
mod faults;
mod helia;
mod internet;
mod lan;
mod liar;
mod line;
mod node;
mod pebble;
mod peers;
mod ports;
mod process;
mod tools;

pub use data::{Scratch, Tree, big_file_bytes, files_equal, trees_equal};
pub use faults::{Fault, Recording, Shim, fast_folder, shim};
pub use helia::Helia;
pub use internet::{Host, Internet};
pub use lan::Lan;
pub use liar::{Liar, Lie};
pub use line::{LineKind, Lines};
pub use node::{Node, Profile, Transport};
pub use pebble::Pebble;
pub use peers::{Peer, cairn_binary, find, skip};
pub use ports::free_port;
pub use process::{Output, Process, command_in, run, until};
pub use tools::{Curl, audit, browse, sha256_of};
