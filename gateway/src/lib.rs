//! A read-only HTTP(S) gateway over [`cairn_proto::content::Content`]; it never sees the node.
//!
//! A request goes through one pipeline (`pipeline`): limits → request and host (pure) → resolve → conditional headers →
//! format → first chunk read *before* the status is sent → body. One file under `respond` per kind of response, one
//! table of failures in `error`, header texts in `headers`. `routing` answers questions of routing beside all that.
//!
//! Invariant: bytes are never added to content. After the first body byte a failure cuts the connection.
//!
//! Read first: [`Gateway`], then `request`, `pipeline` and `respond`.

mod admin;
mod body;
mod cache;
mod caller;
mod error;
mod format;
mod headers;
mod host;
mod limits;
mod measure;
mod media;
mod metrics;
mod pages;
mod patience;
mod pipeline;
mod places;
mod policy;
mod preview;
mod range;
mod rate;
mod redirects;
mod request;
mod respond;
mod routing;
mod search;
mod server;
mod settings;
mod sniff;
pub mod tls;

pub use admin::admin;
pub use pipeline::Gateway;
pub use policy::{Fetch, HostPattern, Hosts, Policy};
pub use rate::Rate;
pub use server::{Client, Encrypted, serve_http, serve_https};
pub use settings::{ServerSettings, Settings};
