//! A transport that reaches other machines although it listens on this one alone.

use std::collections::HashMap;
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use libp2p::Multiaddr;
use libp2p::core::transport::{DialOpts, ListenerId, PortUse, TransportError, TransportEvent};
use libp2p::core::{Endpoint, Transport};

use crate::settings::addresses::leading_ip;

/// Dials through another transport, which takes any listening socket of the same family to dial from; from one that is
/// bound to loopback nothing leaves the machine. Where such a one listens, dials that lead elsewhere get a socket of their own.
///
/// Source: libp2p-quic 0.14 `transport.rs` (`eligible_listener`).
pub(super) struct Outward<T> {
    inner: T,
    /// Listeners on loopback, and whether they are of IPv6.
    loopback: HashMap<ListenerId, bool>,
}

impl<T> Outward<T> {
    pub(super) fn new(inner: T) -> Self {
        Self { inner, loopback: HashMap::new() }
    }

    /// Whether a listening socket could be taken from which the address is not reached.
    fn needs_own_socket(&self, addr: &Multiaddr) -> bool {
        let is_stuck =
            |ip: IpAddr| !ip.is_loopback() && self.loopback.values().any(|is_v6| *is_v6 == ip.is_ipv6());
        leading_ip(addr).is_some_and(is_stuck)
    }
}

impl<T: Transport + Unpin> Transport for Outward<T> {
    type Output = T::Output;
    type Error = T::Error;
    type ListenerUpgrade = T::ListenerUpgrade;
    type Dial = T::Dial;

    fn listen_on(&mut self, id: ListenerId, addr: Multiaddr) -> Result<(), TransportError<Self::Error>> {
        let loopback = leading_ip(&addr).filter(IpAddr::is_loopback);
        self.inner.listen_on(id, addr)?;
        if let Some(ip) = loopback {
            self.loopback.insert(id, ip.is_ipv6());
        }
        Ok(())
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.inner.remove_listener(id)
    }

    fn dial(&mut self, addr: Multiaddr, opts: DialOpts) -> Result<Self::Dial, TransportError<Self::Error>> {
        let port_use = match opts.role {
            Endpoint::Dialer if self.needs_own_socket(&addr) => PortUse::New,
            // A hole is punched from the very socket that listens.
            Endpoint::Dialer | Endpoint::Listener => opts.port_use,
        };
        self.inner.dial(addr, DialOpts { port_use, ..opts })
    }

    fn poll(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, Self::Error>> {
        let this = self.get_mut();
        let event = Pin::new(&mut this.inner).poll(cx);
        if let Poll::Ready(TransportEvent::ListenerClosed { listener_id, .. }) = &event {
            this.loopback.remove(listener_id);
        }
        event
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    /// Says from which port it was to dial, and closes listeners when asked.
    #[derive(Default)]
    struct Recorder {
        closed: Vec<ListenerId>,
    }

    impl Transport for Recorder {
        type Output = PortUse;
        type Error = io::Error;
        type ListenerUpgrade = std::future::Ready<io::Result<PortUse>>;
        type Dial = std::future::Ready<io::Result<PortUse>>;

        fn listen_on(&mut self, _: ListenerId, _: Multiaddr) -> Result<(), TransportError<io::Error>> {
            Ok(())
        }

        fn remove_listener(&mut self, id: ListenerId) -> bool {
            self.closed.push(id);
            true
        }

        fn dial(&mut self, _: Multiaddr, opts: DialOpts) -> Result<Self::Dial, TransportError<io::Error>> {
            Ok(std::future::ready(Ok(opts.port_use)))
        }

        fn poll(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
            match self.closed.pop() {
                Some(listener_id) => {
                    Poll::Ready(TransportEvent::ListenerClosed { listener_id, reason: Ok(()) })
                }
                None => Poll::Pending,
            }
        }
    }

    fn addr(ip: &str) -> Multiaddr {
        let family = if ip.contains(':') { "ip6" } else { "ip4" };
        format!("/{family}/{ip}/udp/4001/quic-v1").parse().unwrap()
    }

    fn port_use(transport: &mut Outward<Recorder>, ip: &str, role: Endpoint) -> PortUse {
        let dial = transport.dial(addr(ip), DialOpts { role, port_use: PortUse::Reuse }).unwrap();
        dial.into_inner().unwrap()
    }

    #[test]
    fn other_machines_are_not_dialled_from_a_socket_on_loopback() {
        let mut transport = Outward::new(Recorder::default());
        let dialer = Endpoint::Dialer;
        transport.listen_on(ListenerId::next(), addr("0.0.0.0")).unwrap();
        assert_eq!(port_use(&mut transport, "192.0.2.1", dialer), PortUse::Reuse);
        let loopback = ListenerId::next();
        transport.listen_on(loopback, addr("127.0.0.1")).unwrap();
        assert_eq!(port_use(&mut transport, "192.0.2.1", dialer), PortUse::New);
        assert_eq!(port_use(&mut transport, "127.0.0.1", dialer), PortUse::Reuse);
        assert_eq!(port_use(&mut transport, "2001:db8::1", dialer), PortUse::Reuse);
        assert_eq!(port_use(&mut transport, "192.0.2.1", Endpoint::Listener), PortUse::Reuse);

        transport.remove_listener(loopback);
        let mut cx = Context::from_waker(std::task::Waker::noop());
        assert!(Pin::new(&mut transport).poll(&mut cx).is_ready());
        assert_eq!(port_use(&mut transport, "192.0.2.1", dialer), PortUse::Reuse);
    }
}
