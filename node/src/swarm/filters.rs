//! Networks that are neither dialled nor let in, which may change while the node runs.

use std::sync::{Arc, PoisonError, RwLock};

use ipnet::IpNet;
use libp2p::Multiaddr;

use crate::settings::addresses::Networks;

/// Networks that are refused. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct Filters(Arc<RwLock<Networks>>);

impl Filters {
    pub(super) fn new(networks: Networks) -> Self {
        Self(Arc::new(RwLock::new(networks)))
    }

    /// Whether an address is refused.
    pub(super) fn refuse(&self, addr: &Multiaddr) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).contain(addr)
    }

    /// Those that are refused.
    pub(super) fn list(&self) -> Vec<IpNet> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).iter().copied().collect()
    }

    /// Refuses exactly these from now on. Open connections stay.
    pub(super) fn set(&self, networks: impl IntoIterator<Item = IpNet>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = networks.into_iter().collect();
    }
}
