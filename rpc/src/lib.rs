//! The commands, typed once, and Kubo's `/api/v0` wire for them.
//!
//! A [`Command`] runs against a [`Context`] and yields a bounded stream of events; dropping the stream cancels the work.
//! [`server`] parses HTTP into commands and encodes their events, [`client`] does the reverse, and a program without a
//! daemon calls [`run`] on a repo that it opened itself. Read [`command`] first, then one file of [`commands`].

pub mod address;
pub mod client;
pub mod command;
pub mod commands;
pub mod context;
pub mod error;
pub mod files;
pub mod server;

mod multipart;

pub use command::{Command, Event, Events, Output, Piece, run};
pub use context::{CidEncoder, Context, Repo};
pub use error::{Code, Error, Result};
