//! Every command, one file for each family.

pub mod add;
pub mod bitswap;
pub mod block;
pub mod bootstrap;
pub mod cat;
pub mod config;
pub mod dag;
pub mod get;
pub mod id;
pub mod ls;
pub mod name;
pub mod pin;
pub mod ping;
pub mod provide;
pub mod refs;
pub mod repo;
pub mod routing;
pub mod shutdown;
pub mod stats;
pub mod swarm;
pub mod tree;
pub mod version;

use cairn_proto::cid::Cid;
use cairn_proto::path::{ContentPath, Root};
use serde::{Deserialize, Serialize};

use crate::command::Command;

/// A CID in the form that IPLD gives links in JSON: `{"/": "bafy…"}`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CidLink {
    /// Text of the CID.
    #[serde(rename = "/")]
    pub cid: String,
}

impl CidLink {
    fn new(cid: String) -> Self {
        Self { cid }
    }
}

/// The CID that a path consists of, if there is nothing behind it.
fn bare_cid(path: &ContentPath) -> Option<Cid> {
    match (path.root(), path.segments()) {
        (Root::Ipfs(cid), []) => Some(*cid),
        _ => None,
    }
}

/// Something that is done for every command.
pub trait Visitor {
    /// Meets one of them.
    fn command<C: Command>(&mut self);
}

/// Meets every command of the RPC.
pub fn visit(visitor: &mut impl Visitor) {
    visitor.command::<add::Add>();
    visitor.command::<bitswap::Ledger>();
    visitor.command::<bitswap::Stat>();
    visitor.command::<bitswap::Waiting>();
    visitor.command::<bitswap::Wantlist>();
    visitor.command::<block::Get>();
    visitor.command::<block::Put>();
    visitor.command::<block::Rm>();
    visitor.command::<block::Stat>();
    visitor.command::<bootstrap::Add>();
    visitor.command::<bootstrap::Bootstrap>();
    visitor.command::<bootstrap::List>();
    visitor.command::<bootstrap::Rm>();
    visitor.command::<bootstrap::RmAll>();
    visitor.command::<cat::Cat>();
    visitor.command::<config::ApplyProfile>();
    visitor.command::<config::Config>();
    visitor.command::<config::Reload>();
    visitor.command::<config::Replace>();
    visitor.command::<config::Show>();
    visitor.command::<dag::Export>();
    visitor.command::<dag::Get>();
    visitor.command::<dag::Import>();
    visitor.command::<dag::Put>();
    visitor.command::<dag::Resolve>();
    visitor.command::<dag::Stat>();
    visitor.command::<get::Get>();
    visitor.command::<id::Id>();
    visitor.command::<ls::Ls>();
    visitor.command::<name::Resolve>();
    visitor.command::<pin::Add>();
    visitor.command::<pin::Ls>();
    visitor.command::<pin::Rm>();
    visitor.command::<pin::Update>();
    visitor.command::<pin::Verify>();
    visitor.command::<ping::Ping>();
    visitor.command::<provide::Clear>();
    visitor.command::<provide::Once>();
    visitor.command::<provide::Stat>();
    visitor.command::<refs::Local>();
    visitor.command::<refs::Refs>();
    visitor.command::<repo::Backup>();
    visitor.command::<repo::Gc>();
    visitor.command::<repo::ImportKubo>();
    visitor.command::<repo::Ls>();
    visitor.command::<repo::Salvage>();
    visitor.command::<repo::Stat>();
    visitor.command::<repo::Verify>();
    visitor.command::<routing::FindPeer>();
    visitor.command::<routing::FindProviders>();
    visitor.command::<routing::Get>();
    visitor.command::<routing::Provide>();
    visitor.command::<routing::Put>();
    visitor.command::<shutdown::Shutdown>();
    visitor.command::<stats::Bandwidth>();
    visitor.command::<stats::Bitswap>();
    visitor.command::<swarm::Addrs>();
    visitor.command::<swarm::AutoNat>();
    visitor.command::<swarm::Connect>();
    visitor.command::<swarm::Disconnect>();
    visitor.command::<swarm::Listen>();
    visitor.command::<swarm::Local>();
    visitor.command::<swarm::filters::Add>();
    visitor.command::<swarm::filters::Filters>();
    visitor.command::<swarm::filters::Rm>();
    visitor.command::<swarm::peering::Add>();
    visitor.command::<swarm::peering::Ls>();
    visitor.command::<swarm::peering::Rm>();
    visitor.command::<swarm::Peers>();
    visitor.command::<swarm::resources::Resources>();
    visitor.command::<tree::Commands>();
    visitor.command::<version::Version>();
}
