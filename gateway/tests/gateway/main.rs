//! The gateway over content in memory: through its router, and over sockets.

mod caching;
mod directories;
mod failures;
mod files;
mod formats;
mod hosts;
// Marked as tests, so that their helpers may unwrap.
#[cfg(test)]
mod sockets;
#[cfg(test)]
mod support;
