//! Attempts to connect that someone waits for, and failures in words.

use std::collections::HashMap;
use std::error::Error as StdError;
use std::io;

use libp2p::core::transport::TransportError;
use libp2p::swarm::{ConnectionId, DialError};
use libp2p::{Multiaddr, PeerId};
use tokio::sync::oneshot;

use super::address;
use crate::{Error, Kind};

/// Attempts that someone waits for.
const MAX_WAITING: usize = 512;

/// Who waits for a connection.
#[derive(Debug, Default)]
pub(super) struct Dials {
    waiting: HashMap<ConnectionId, (PeerId, oneshot::Sender<Result<(), Error>>)>,
}

impl Dials {
    pub(super) fn has_room(&self) -> bool {
        self.waiting.len() < MAX_WAITING
    }

    pub(super) fn wait(&mut self, id: ConnectionId, peer: PeerId, reply: oneshot::Sender<Result<(), Error>>) {
        self.waiting.insert(id, (peer, reply));
    }

    /// The peer is connected, whoever dialled.
    pub(super) fn on_connected(&mut self, peer: &PeerId) {
        for (_, (_, reply)) in self.waiting.extract_if(|_, (waited_for, _)| waited_for == peer) {
            // Whoever waited may have gone away.
            let _ = reply.send(Ok(()));
        }
    }

    /// An attempt failed.
    pub(super) fn on_failed(&mut self, id: ConnectionId, error: &DialError) {
        if let Some((peer, reply)) = self.waiting.remove(&id) {
            let _ = reply.send(Err(explain_dial(peer, error)));
        }
    }
}

/// A failed dial in words: what every address said.
pub(super) fn explain_dial(peer: PeerId, error: &DialError) -> Error {
    match error {
        DialError::NoAddresses => Error::not_found(format!("no address known of peer, peer={peer}")),
        DialError::LocalPeerId { address } => {
            Error::invalid(format!("that is this node itself, peer={peer} addr={address}"))
        }
        DialError::WrongPeerId { obtained, address } => Error::invalid(format!(
            "another peer answers there, wanted={peer} found={obtained} addr={address}"
        )),
        DialError::Transport(attempts) => {
            let tried: Vec<_> = attempts.iter().map(explain_attempt).collect();
            Error::new(
                Kind::Unavailable,
                format!("cannot connect to peer, peer={peer}: {}", tried.join("; ")),
            )
        }
        DialError::Denied { cause } => {
            let reason = deepest(cause);
            Error::new(Kind::Unavailable, format!("connection refused by own limits, peer={peer}: {reason}"))
        }
        DialError::Aborted | DialError::DialPeerConditionFalse(_) => {
            Error::new(Kind::Unavailable, format!("attempt to connect was given up, peer={peer}"))
        }
    }
}

/// A failure to listen in words.
pub(super) fn explain_listen(addr: &Multiaddr, error: &TransportError<io::Error>) -> Error {
    match error {
        TransportError::MultiaddrNotSupported(_) => Error::invalid(format!(
            "no transport for that address to listen on, addr={addr} (see Addresses.Swarm in the config)"
        )),
        TransportError::Other(error) if is_in_use(error) => {
            let advice =
                "another program listens there: stop it, or set other ports in Addresses.Swarm of the config";
            Error::new(Kind::Unavailable, format!("address in use, addr={addr} ({advice})"))
        }
        TransportError::Other(error) => {
            let reason = deepest(error);
            Error::new(Kind::Unavailable, format!("cannot listen, addr={addr}: {reason}"))
        }
    }
}

/// Whether an address is taken by another socket.
///
/// Told by the code in the words: libp2p's layers show the error of the socket in their text, but not as a source.
pub(super) fn is_in_use(error: &io::Error) -> bool {
    let words = error.to_string();
    let code = words.rsplit_once("(os error ").and_then(|(_, rest)| rest.split(')').next()?.parse().ok());
    code.is_some_and(|code| io::Error::from_raw_os_error(code).kind() == io::ErrorKind::AddrInUse)
}

fn explain_attempt((addr, error): &(Multiaddr, TransportError<io::Error>)) -> String {
    // The peer is named once, in front.
    let addr = address::without_peer(addr.clone());
    match error {
        TransportError::MultiaddrNotSupported(_) => format!("{addr}: no transport for it here"),
        TransportError::Other(error) => format!("{addr}: {}", deepest(error)),
    }
}

/// The error that started it, in one line; the layers above it only repeat each other.
fn deepest(error: &(dyn StdError + 'static)) -> String {
    let mut deepest = error;
    while let Some(next) = inner(deepest) {
        deepest = next;
    }
    deepest.to_string().lines().map(str::trim).collect::<Vec<_>>().join(" ")
}

/// The error inside, also where an `io::Error` only hands on the source of what it holds.
fn inner<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a (dyn StdError + 'static)> {
    if let Some(held) = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        return Some(held);
    }
    error.source()
}
