//! `bootstrap`, `bootstrap list`, `bootstrap add`, `bootstrap rm`, `bootstrap rm all`.
//!
//! All of them work on the configuration's file; a daemon reads it when it starts.

use cairn_node::settings::config::Config;
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};
use serde::{Deserialize, Serialize};

use crate::command::{Binder, Command, JsonEvent, Output};
use crate::context::Context;
use crate::error::{Error, Result};

const KEY: &str = "Bootstrap";
/// What stands for the public list.
const AUTO: &str = "auto";

/// Addresses of peers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Peers {
    /// Each ends in `/p2p/` and a peer ID, or is `auto`, which stands for the public list.
    pub peers: Vec<String>,
}

impl JsonEvent for Peers {}

/// Lists the peers to start from.
#[derive(Debug, Clone, Default)]
pub struct List {
    /// Print the public list in place of `auto`.
    pub expand_auto: bool,
}

/// The same, as Kubo lets it be called without its second word.
#[derive(Debug, Clone, Default)]
pub struct Bootstrap;

/// Adds peers to start from.
#[derive(Debug, Clone, Default)]
pub struct Add {
    /// Addresses that end in `/p2p/` and a peer ID; `default` and `auto` stand for the public list.
    pub peers: Vec<String>,
}

/// Removes peers to start from; says which.
#[derive(Debug, Clone, Default)]
pub struct Rm {
    /// Addresses that end in `/p2p/` and a peer ID; one that is nothing else stands for all of that peer.
    pub peers: Vec<String>,
    /// Remove all.
    pub all: bool,
}

/// Removes all peers to start from; says which.
#[derive(Debug, Clone, Default)]
pub struct RmAll;

impl Command for List {
    const PATH: &'static str = "bootstrap/list";
    type Event = Peers;

    fn bind(&mut self, binder: &mut Binder) -> Result<()> {
        binder.option("expand-auto", "", &mut self.expand_auto)
    }

    fn is_stream(&self) -> bool {
        false
    }

    async fn run(self, context: Context, output: Output<Peers>) -> Result<()> {
        let config = Config::load(context.repo.path())?;
        let peers = if self.expand_auto {
            config.bootstrap()?.iter().map(ToString::to_string).collect()
        } else {
            texts(&config)?
        };
        output.send(Peers { peers }).await
    }
}

impl Command for Bootstrap {
    const PATH: &'static str = "bootstrap";
    type Event = Peers;

    fn bind(&mut self, _binder: &mut Binder) -> Result<()> {
        Ok(())
    }

    fn is_stream(&self) -> bool {
        false
    }

    async fn run(self, context: Context, output: Output<Peers>) -> Result<()> {
        List::default().run(context, output).await
    }
}

impl Command for Add {
    const PATH: &'static str = "bootstrap/add";
    type Event = Peers;

    fn bind(&mut self, binder: &mut Binder) -> Result<()> {
        binder.args("peer", 0, &mut self.peers)
    }

    fn is_stream(&self) -> bool {
        false
    }

    async fn run(self, context: Context, output: Output<Peers>) -> Result<()> {
        if self.peers.is_empty() {
            return Err(Error::client("no bootstrap peers to add"));
        }
        let peers = self.peers.iter().map(|text| match text.as_str() {
            "default" | AUTO => Ok(AUTO.to_owned()),
            text => parse(text).map(|(addr, peer)| addr.with(Protocol::P2p(peer)).to_string()),
        });
        let peers = peers.collect::<Result<Vec<_>>>()?;
        edit(&context, |listed| {
            for peer in &peers {
                if !listed.contains(peer) {
                    listed.push(peer.clone());
                }
            }
        })?;
        output.send(Peers { peers }).await
    }
}

impl Command for Rm {
    const PATH: &'static str = "bootstrap/rm";
    type Event = Peers;

    fn bind(&mut self, binder: &mut Binder) -> Result<()> {
        binder.args("peer", 0, &mut self.peers)?;
        binder.option("all", "", &mut self.all)
    }

    fn is_stream(&self) -> bool {
        false
    }

    async fn run(self, context: Context, output: Output<Peers>) -> Result<()> {
        if self.all {
            return RmAll.run(context, output).await;
        }
        let auto = self.peers.iter().any(|text| text == AUTO);
        let wanted = self.peers.iter().filter(|text| *text != AUTO).map(|text| parse(text));
        let wanted = wanted.collect::<Result<Vec<_>>>()?;
        let goes = |listed: &str| match parse(listed) {
            Ok((addr, peer)) => wanted
                .iter()
                .any(|(wanted, of)| *of == peer && (*wanted == addr || *wanted == Multiaddr::empty())),
            Err(_) => auto && listed == AUTO,
        };
        let removed = remove(&context, goes)?;
        output.send(Peers { peers: removed }).await
    }
}

impl Command for RmAll {
    const PATH: &'static str = "bootstrap/rm/all";
    type Event = Peers;

    fn bind(&mut self, _binder: &mut Binder) -> Result<()> {
        Ok(())
    }

    fn is_stream(&self) -> bool {
        false
    }

    async fn run(self, context: Context, output: Output<Peers>) -> Result<()> {
        let removed = remove(&context, |_| true)?;
        output.send(Peers { peers: removed }).await
    }
}

/// The list as it stands in the file.
fn texts(config: &Config) -> Result<Vec<String>> {
    Ok(config.read_list(KEY, |text| Ok::<_, String>(text.to_owned()))?)
}

fn edit(context: &Context, change: impl FnOnce(&mut Vec<String>)) -> Result<()> {
    Config::edit(context.repo.path(), |config| {
        let mut listed = config.read_list(KEY, |text| Ok::<_, String>(text.to_owned()))?;
        change(&mut listed);
        config.set(KEY, listed.into())
    })?;
    Ok(())
}

fn remove(context: &Context, goes: impl Fn(&str) -> bool) -> Result<Vec<String>> {
    let mut removed = Vec::new();
    edit(context, |listed| {
        let (gone, kept) = std::mem::take(listed).into_iter().partition(|text| goes(text));
        (removed, *listed) = (gone, kept);
    })?;
    Ok(removed)
}

/// An address and the peer ID at its end.
fn parse(text: &str) -> Result<(Multiaddr, PeerId)> {
    let mut addr: Multiaddr = text
        .parse()
        .map_err(|error| Error::client(format!("failed to parse multiaddr {text:?}: {error}")))?;
    match addr.pop() {
        Some(Protocol::P2p(peer)) => Ok((addr, peer)),
        _ => Err(Error::client(format!("invalid bootstrap address: {text}"))),
    }
}
