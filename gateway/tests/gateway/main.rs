//! The gateway over content in memory: through its router, and over sockets.

mod caching;
mod denylists;
mod directories;
mod failures;
mod files;
mod formats;
mod hosts;
mod limits;
mod names;
mod redirects;
mod routing;
// Marked as tests, so that their helpers may unwrap.
#[cfg(test)]
mod operators;
#[cfg(test)]
mod sockets;
#[cfg(test)]
mod support;
mod waiting;
