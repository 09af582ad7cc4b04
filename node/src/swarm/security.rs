//! The ciphers of TCP connections: TLS before Noise, as Kubo offers them.

use std::io;
use std::pin::Pin;

use futures::future::{Either, Future, TryFutureExt as _};
use futures::{AsyncRead, AsyncWrite};
use libp2p::core::upgrade::{
    InboundConnectionUpgrade, OutboundConnectionUpgrade, SelectUpgrade, UpgradeInfo,
};
use libp2p::identity::Keypair;
use libp2p::{PeerId, noise, tls};

use super::transport::BoxError;

type Ciphers = SelectUpgrade<tls::Config, noise::Config>;
type Secured<C> = (PeerId, Either<tls::TlsStream<C>, noise::Output<C>>);

/// Whichever of the two the other side takes.
#[derive(Clone)]
pub(super) struct Security(Ciphers);

impl Security {
    pub(super) fn new(key: &Keypair) -> Result<Self, BoxError> {
        Ok(Self(SelectUpgrade::new(tls::Config::new(key)?, noise::Config::new(key)?)))
    }
}

impl UpgradeInfo for Security {
    type Info = <Ciphers as UpgradeInfo>::Info;
    type InfoIter = <Ciphers as UpgradeInfo>::InfoIter;

    fn protocol_info(&self) -> Self::InfoIter {
        self.0.protocol_info()
    }
}

impl<C: AsyncRead + AsyncWrite + Send + Unpin + 'static> InboundConnectionUpgrade<C> for Security {
    type Output = Secured<C>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Secured<C>>> + Send>>;

    fn upgrade_inbound(self, socket: C, info: Self::Info) -> Self::Future {
        let secured = InboundConnectionUpgrade::upgrade_inbound(self.0, socket, info);
        Box::pin(secured.map_ok(Either::factor_first).map_err(io::Error::other))
    }
}

impl<C: AsyncRead + AsyncWrite + Send + Unpin + 'static> OutboundConnectionUpgrade<C> for Security {
    type Output = Secured<C>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Secured<C>>> + Send>>;

    fn upgrade_outbound(self, socket: C, info: Self::Info) -> Self::Future {
        let secured = OutboundConnectionUpgrade::upgrade_outbound(self.0, socket, info);
        Box::pin(secured.map_ok(Either::factor_first).map_err(io::Error::other))
    }
}
