//! Finding damage and getting over it: every block hashed again, a store made anew of what is left of one, backups.
//!
//! It knows blocks and pins, nothing of files or paths. How damage is found without being looked for is in
//! `docs/design/0002-store-layout.md`.

mod backup;
mod salvage;
#[cfg(test)]
mod tests;
mod verify;

pub use backup::{backup, restore};
pub use salvage::{LostPin, SalvageReport, salvage};
pub use verify::{VerifyEvent, VerifyOptions, VerifyReport};

pub(crate) use verify::verify;
