//! A transport that dials no address of some networks, whoever asks and whatever name led there.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use libp2p::Multiaddr;
use libp2p::core::Transport;
use libp2p::core::transport::{DialOpts, ListenerId, TransportError, TransportEvent};

use super::filters::Filters;

/// Dials through another transport, but not into networks that [`Filters`] refuse.
pub(super) struct Guarded<T> {
    inner: T,
    refused: Filters,
}

impl<T> Guarded<T> {
    pub(super) fn new(inner: T, refused: Filters) -> Self {
        Self { inner, refused }
    }
}

impl<T: Transport<Error = io::Error> + Unpin> Transport for Guarded<T> {
    type Output = T::Output;
    type Error = T::Error;
    type ListenerUpgrade = T::ListenerUpgrade;
    type Dial = T::Dial;

    fn listen_on(&mut self, id: ListenerId, addr: Multiaddr) -> Result<(), TransportError<Self::Error>> {
        self.inner.listen_on(id, addr)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.inner.remove_listener(id)
    }

    fn dial(&mut self, addr: Multiaddr, opts: DialOpts) -> Result<Self::Dial, TransportError<Self::Error>> {
        if self.refused.refuse(&addr) {
            let reason = "refused by Swarm.AddrFilters of the config";
            return Err(TransportError::Other(io::Error::new(io::ErrorKind::PermissionDenied, reason)));
        }
        self.inner.dial(addr, opts)
    }

    fn poll(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, Self::Error>> {
        Pin::new(&mut self.get_mut().inner).poll(cx)
    }
}
