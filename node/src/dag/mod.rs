//! DAGs: adding files, reading, resolving, fetching, CAR. Drives the machines of `cairn_proto` over [`crate::blocks`].
//!
//! It must not know libp2p types. Read [`driver`] first: every other file here is a machine and that loop.

mod add;
mod archive;
mod car;
mod content;
mod cut;
mod driver;
mod session;
mod tree;

pub(crate) use add::Target;
pub use add::{AddEvent, AddOptions, Adder};
pub use car::{CarImport, ImportEvent};
pub(crate) use content::NodeContent;
pub use session::{DagStat, Fetched, Reference, Session};

#[cfg(test)]
mod tests;
