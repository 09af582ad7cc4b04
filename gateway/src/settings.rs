//! What the caller decides. Every default is here.

use std::time::Duration;

/// Settings of a [`Gateway`](crate::Gateway).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Host names under which every content gets an origin of its own, `{cid}.ipfs.{host}`; lower case, without port.
    /// A path request to such a host is redirected there. Every other host is a path gateway.
    pub subdomain_hosts: Vec<String>,
    /// For whom content may be fetched from peers.
    pub fetch: Fetch,
    /// Longest wait for the first byte of a response; then 504.
    ///
    /// Source: boxo `gateway.DefaultRetrievalTimeout` (30 s).
    pub first_byte_timeout: Duration,
    /// Longest wait for more content once a response has begun; then the connection is cut.
    pub chunk_timeout: Duration,
    /// Requests answered at the same time, bodies included; one more gets 429.
    ///
    /// Source: boxo `gateway.DefaultMaxConcurrentRequests` (4,096).
    pub max_requests: usize,
    /// Memory for what is known of immutable paths and for the content of small files, in bytes.
    pub cache_bytes: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            subdomain_hosts: vec!["localhost".to_owned()],
            fetch: Fetch::Loopback,
            first_byte_timeout: Duration::from_secs(30),
            chunk_timeout: Duration::from_secs(30),
            max_requests: 4096,
            cache_bytes: 32 * 1024 * 1024,
        }
    }
}

/// For whom content may be fetched from peers; the others get what is in the store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Fetch {
    /// Requests whose host is `localhost`, a name below it, or a loopback address: the user of this machine.
    ///
    /// A gateway that fetches for everybody gets its whole domain onto blocking lists.
    #[default]
    Loopback,
    /// Everybody.
    Always,
    /// Nobody.
    Never,
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
