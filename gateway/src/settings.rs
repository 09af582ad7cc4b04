//! What the caller decides. Every default is here.

use std::time::Duration;

use ipnet::IpNet;

use crate::policy::Hosts;
use crate::rate::Rate;

/// Settings of a [`Gateway`](crate::Gateway).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// What each host is for.
    pub hosts: Hosts,
    /// Networks of the proxies whose `X-Forwarded-For`, `-Host` and `-Proto` are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Send browsers that come without TLS to the same URL with it, where there is a certificate for its domain. Hosts without
    /// a domain name are left alone.
    pub redirect_to_https: bool,
    /// How long browsers shall come with TLS only, once they did: HSTS. `None` to let them be.
    pub hsts: Option<Duration>,
    /// Longest wait for the first byte of a response; then 504.
    ///
    /// Source: boxo `gateway.DefaultRetrievalTimeout` (30 s).
    pub first_byte_timeout: Duration,
    /// Longest wait for more content once a response has begun; then the connection is cut.
    pub chunk_timeout: Duration,
    /// Longest time that one response may take; then the connection is cut.
    ///
    /// Source: boxo `gateway.DefaultMaxRequestDuration` (1 h).
    pub request_timeout: Duration,
    /// Requests answered at the same time, bodies included; one more gets 429.
    ///
    /// Source: boxo `gateway.DefaultMaxConcurrentRequests` (4,096).
    pub max_requests: usize,
    /// Most requests of one client by its address, `None` for any number; one more gets 429. Clients on this computer are
    /// not counted.
    pub rate: Option<Rate>,
    /// Most rows of a listing; it says so when there are more.
    pub max_rows: u64,
    /// Largest file that is served as a file, in bytes, `None` for any; a larger one gets 410.
    pub max_file_bytes: Option<u64>,
    /// Largest UnixFS content that is served in any format but as single blocks, in bytes; `None` for any. Content whose root
    /// claims more gets 410, and an archive that grows beyond it is cut.
    pub max_content_bytes: Option<u64>,
    /// Largest file of which a range is served, in bytes, `None` for any; a range of a larger one gets 501. For operators
    /// behind a CDN that fetches all of a file for each range of it.
    pub max_range_file_bytes: Option<u64>,
    /// Answer questions of the routing API, under `/routing/v1`.
    pub routing: bool,
    /// Memory for what is known of immutable paths and for blocks that are asked for often, in bytes.
    pub cache_bytes: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            hosts: Hosts::default(),
            trusted_proxies: Vec::new(),
            redirect_to_https: false,
            hsts: None,
            first_byte_timeout: Duration::from_secs(30),
            chunk_timeout: Duration::from_secs(30),
            request_timeout: Duration::from_secs(3600),
            max_requests: 4096,
            rate: None,
            max_rows: 200_000,
            max_file_bytes: None,
            max_content_bytes: None,
            max_range_file_bytes: None,
            routing: true,
            cache_bytes: 64 * 1024 * 1024,
        }
    }
}

/// Settings of a listening server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerSettings {
    /// Connections open at the same time; the next one waits in the kernel.
    pub max_connections: usize,
    /// Longest wait for the TLS handshake, and for the headers of a request; also how long a connection may idle.
    pub header_timeout: Duration,
    /// Longest time that a client may leave the socket full.
    pub write_timeout: Duration,
    /// Age at which a connection takes no further request. At twice that age it is cut, which bounds a request whose
    /// client reads ever so slowly.
    pub max_connection_age: Duration,
    /// Longest time that requests get to finish on shutdown.
    pub drain_timeout: Duration,
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            max_connections: 8192,
            header_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(30),
            max_connection_age: Duration::from_secs(3600),
            drain_timeout: Duration::from_secs(3),
        }
    }
}
