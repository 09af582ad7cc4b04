//! Peers in bad faith: real connections and streams, and a lie in every answer.

use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::Bytes;
use cairn_node::swarm::bitswap::{self, Change, Link, Opener, Wire, frame};
use cairn_proto::bitswap::message::{Message, Outgoing, Presence, Version, WantEntry, WantKind};
use cairn_proto::block::Block;
use cairn_proto::cid::{Cid, HashFunction, Version as CidVersion};
use futures::{AsyncWriteExt as _, StreamExt as _};
use libp2p::swarm::{Stream, SwarmEvent};
use libp2p::{Swarm, SwarmBuilder, noise, tcp, yamux};
use tokio::sync::oneshot;

/// How long a connection is kept over which nothing is said.
const IDLE_TIMEOUT: Duration = Duration::from_secs(600);
/// Length of a block of wrong bytes.
const WRONG_BYTES: usize = 256 * 1024;
/// Streams opened for nothing upon each message of wants.
const FLOOD_STREAMS: usize = 256;

/// What a peer does once it is asked. All of them say first that they have whatever it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    /// Sends other bytes in place of each block.
    WrongBytes,
    /// Says nothing more.
    Silence,
    /// Begins each block and resets the stream in the middle of it.
    HalfBlocks,
    /// Begins a block, and goes on by one byte a second.
    Drip,
    /// Opens streams, one after the other, and says nothing on them.
    Flood,
}

impl Lie {
    /// Nine peers who together tell every lie.
    pub const NINE: [Self; 9] = [
        Self::WrongBytes,
        Self::WrongBytes,
        Self::Silence,
        Self::Silence,
        Self::HalfBlocks,
        Self::HalfBlocks,
        Self::Drip,
        Self::Drip,
        Self::Flood,
    ];
}

/// A peer in bad faith that listens on loopback. Dropping it ends it.
#[derive(Debug)]
pub struct Liar {
    addr: String,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Liar {
    /// Starts it on a thread of its own.
    #[must_use]
    pub fn start(lie: Lie) -> Self {
        let (stop, stopped) = oneshot::channel();
        let (tell, told) = mpsc::sync_channel(1);
        let live = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime can be made").block_on(async {
                tokio::select! {
                    () = run(lie, tell) => {}
                    _ = stopped => {}
                }
            });
        };
        let thread = thread::Builder::new().name(format!("{lie:?}")).spawn(live).expect("a thread starts");
        let addr = told.recv().expect("it listens");
        Self { addr, stop: Some(stop), thread: Some(thread) }
    }

    /// Where it listens, ending in `/p2p/` and its peer ID.
    #[must_use]
    pub fn addr(&self) -> &str {
        &self.addr
    }
}

impl Drop for Liar {
    fn drop(&mut self) {
        self.stop.take().map(|stop| stop.send(()));
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn swarm() -> (Swarm<bitswap::Behaviour>, Wire) {
    let (behaviour, wire) = bitswap::new();
    let swarm = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default().nodelay(true), noise::Config::new, yamux::Config::default)
        .expect("a new key is a good one")
        .with_behaviour(|_| behaviour)
        .expect("it was made above")
        .with_swarm_config(|config| config.with_idle_connection_timeout(IDLE_TIMEOUT))
        .build();
    (swarm, wire)
}

async fn run(lie: Lie, tell: mpsc::SyncSender<String>) {
    let (mut swarm, mut wire) = swarm();
    swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse().expect("it is an address")).expect("loopback is there");
    let id = *swarm.local_peer_id();
    let peers = async {
        loop {
            for change in wire.changes().await {
                if let Change::Connected(link) = change {
                    tokio::spawn(deceive(lie, link));
                }
            }
        }
    };
    let events = async {
        while let Some(event) = swarm.next().await {
            if let SwarmEvent::NewListenAddr { address, .. } = event {
                // It listens once.
                let _ = tell.send(format!("{address}/p2p/{id}"));
            }
        }
    };
    futures::join!(peers, events);
}

/// Reads what a peer wants, and answers.
async fn deceive(lie: Lie, link: Link) {
    let (mut inbound, opener) = link.split();
    let _open = opener.keep_alive();
    while let Some((_, mut stream)) = inbound.recv().await {
        let opener = opener.clone();
        tokio::spawn(async move {
            let mut out = None;
            while let Ok(Some(len_bytes)) = frame::read_len(&mut stream).await {
                let Ok(body) = frame::read_body(&mut stream, len_bytes, |_| ()).await else { return };
                let Ok(message) = Message::decode(body) else { return };
                answer(lie, &opener, &mut out, &message).await;
            }
        });
    }
}

/// Failures do not matter: whoever is lied to may close a stream.
async fn answer(lie: Lie, opener: &Opener, out: &mut Option<(Version, Stream)>, message: &Message) {
    let (mut haves, mut blocks) = (Vec::new(), Vec::new());
    for entry in message.entries() {
        match entry {
            WantEntry::Want { cid, kind: WantKind::Have, .. } => haves.push((cid, Presence::Have)),
            WantEntry::Want { cid, kind: WantKind::Block, .. } => blocks.push(cid),
            WantEntry::Cancel(_) => {}
        }
    }
    if !haves.is_empty() {
        send(opener, out, &Outgoing { presences: haves, ..Outgoing::default() }).await;
    }
    match lie {
        Lie::Silence => {}
        Lie::WrongBytes => {
            for (number, cid) in blocks.iter().enumerate() {
                let blocks = vec![wrong_block(cid, number)];
                send(opener, out, &Outgoing { blocks, ..Outgoing::default() }).await;
            }
        }
        Lie::HalfBlocks => {
            for (number, cid) in blocks.iter().enumerate() {
                begin(opener, wrong_block(cid, number), None).await;
            }
        }
        Lie::Drip => {
            if let Some(cid) = blocks.first() {
                tokio::spawn(drip(opener.clone(), wrong_block(cid, 0)));
            }
        }
        Lie::Flood => {
            let mut open = Vec::new();
            while open.len() < FLOOD_STREAMS
                && let Ok(stream) = opener.open().await
            {
                open.push(stream);
            }
        }
    }
}

async fn send(opener: &Opener, out: &mut Option<(Version, Stream)>, message: &Outgoing) {
    if out.is_none() {
        *out = opener.open().await.ok();
    }
    let Some((version, stream)) = out else { return };
    if frame::write(stream, &message.encode(*version)).await.is_err() {
        *out = None;
    }
}

async fn drip(opener: Opener, block: Block) {
    begin(&opener, block, Some(Duration::from_secs(1))).await;
}

/// Sends half of a message with that block, and the rest byte by byte if it is said how often.
async fn begin(opener: &Opener, block: Block, period: Option<Duration>) {
    let Ok((version, mut stream)) = opener.open().await else { return };
    let message: Vec<u8> = Outgoing { blocks: vec![block], ..Outgoing::default() }.encode(version).concat();
    let (first, rest) = message.split_at(message.len() / 2);
    let mut is_open = stream.write_all(first).await.is_ok() && stream.flush().await.is_ok();
    let Some(period) = period else { return };
    for byte in rest {
        if !is_open {
            return;
        }
        tokio::time::sleep(period).await;
        is_open = stream.write_all(&[*byte]).await.is_ok() && stream.flush().await.is_ok();
    }
}

/// Bytes that are not those of `cid`, under its prefix.
fn wrong_block(cid: &Cid, number: usize) -> Block {
    let data = Bytes::from(vec![number.to_le_bytes()[0]; WRONG_BYTES]);
    Block::hash(CidVersion::V1, cid.codec(), HashFunction::Sha2_256, data).expect("it is short enough")
}
