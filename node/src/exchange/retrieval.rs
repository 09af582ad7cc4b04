//! Trustless gateways as peers: they are asked for the same blocks, over HTTP.
//!
//! To the machine that decides who is asked for what, a gateway is a peer like others: it is given wants, and answers with
//! blocks and with what it has not. Blocks are hashed by [`super::http::Client`]; one that is wrong ends the gateway.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use cairn_proto::bitswap::PeerKey;
use cairn_proto::bitswap::message::{Presence, WantEntry, WantKind};
use cairn_proto::block::Block;
use cairn_proto::cid::{Cid, Multihash};
use futures::stream::{FuturesUnordered, StreamExt as _};
use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::Counters;
use super::http::{Client, FetchError, GatewayUrl};
use super::task::{PeerEvent, Signs};

/// Gateways that are asked at a time.
const MAX_GATEWAYS: usize = 32;
/// Requests to one gateway at a time. Source: Kubo `HTTPRetrieval.NumWorkers` (16).
const MAX_REQUESTS: usize = 16;
/// Requests that fail one after the other before the gateway counts as gone.
const MAX_FAILURES: u32 = 3;
/// Time without a want after which a gateway is forgotten.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a gateway that failed, or lied, is not asked.
const AVOID: Duration = Duration::from_secs(600);
const AVOID_LIAR: Duration = Duration::from_secs(3600);
/// Gateways to avoid that are kept in mind.
const MAX_AVOIDED: usize = 1024;

/// Which gateways are asked. Source: Kubo `docs/config.md`, `HTTPRetrieval`.
#[derive(Debug, Clone, Default)]
pub struct RetrievalRules {
    /// Hosts that alone are asked; all, when there are none.
    pub allowed: Vec<String>,
    /// Hosts that are not asked.
    pub denied: Vec<String>,
}

/// The gateways that are asked, and those that are not asked again soon.
#[derive(Debug)]
pub(super) struct Retrieval {
    pub(super) client: Client,
    rules: RetrievalRules,
    known: HashMap<GatewayUrl, PeerKey>,
    avoided: HashMap<GatewayUrl, Instant>,
}

impl Retrieval {
    pub(super) fn new(client: Client, rules: RetrievalRules) -> Self {
        Self { client, rules, known: HashMap::new(), avoided: HashMap::new() }
    }

    /// The key of a gateway that is asked already.
    pub(super) fn key(&self, gateway: &GatewayUrl) -> Option<PeerKey> {
        self.known.get(gateway).copied()
    }

    /// Whether one more may be asked.
    pub(super) fn may_ask(&self, gateway: &GatewayUrl) -> bool {
        let is_in = |hosts: &[String]| hosts.iter().any(|host| host.eq_ignore_ascii_case(gateway.host()));
        let RetrievalRules { allowed, denied } = &self.rules;
        let is_avoided = self.avoided.get(gateway).is_some_and(|until| Instant::now() < *until);
        self.known.len() < MAX_GATEWAYS
            && !is_avoided
            && !is_in(denied)
            && (allowed.is_empty() || is_in(allowed))
    }

    pub(super) fn insert(&mut self, gateway: GatewayUrl, key: PeerKey) {
        self.known.insert(gateway, key);
    }

    /// Forgets a gateway whose task has ended.
    pub(super) fn remove(&mut self, gateway: &GatewayUrl, end: End) {
        self.known.remove(gateway);
        let avoid = match end {
            End::Idle => return,
            End::Failed => AVOID,
            End::Lied => AVOID_LIAR,
        };
        let now = Instant::now();
        if self.avoided.len() == MAX_AVOIDED {
            self.avoided.retain(|_, until| now < *until);
        }
        if self.avoided.len() < MAX_AVOIDED {
            self.avoided.insert(gateway.clone(), now + avoid);
        }
    }
}

/// Why a gateway is not asked any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Nothing is wanted of it.
    Idle,
    /// It does not answer.
    Failed,
    /// It sent what was not asked for.
    Lied,
}

/// The gateway that an address leads to: HTTP over TLS only, so that nobody on the way sees what is read.
///
/// Source: <https://github.com/multiformats/multiaddr/blob/master/protocols.csv> (`/tls/http`, formerly `/https`).
pub(super) fn gateway_of(addr: &Multiaddr) -> Option<GatewayUrl> {
    let mut parts = addr.iter().filter(|part| !matches!(part, Protocol::P2p(_) | Protocol::Sni(_)));
    let host = match parts.next()? {
        Protocol::Dns(host) | Protocol::Dns4(host) | Protocol::Dns6(host) => host.into_owned(),
        Protocol::Ip4(ip) => ip.to_string(),
        Protocol::Ip6(ip) => format!("[{ip}]"),
        _ => return None,
    };
    let Protocol::Tcp(port) = parts.next()? else { return None };
    match (parts.next()?, parts.next(), parts.next()) {
        (Protocol::Https, None, None) | (Protocol::Tls, Some(Protocol::Http), None) => {}
        _ => return None,
    }
    let url = if port == 443 { format!("https://{host}") } else { format!("https://{host}:{port}") };
    url.parse().ok()
}

/// Asks one gateway.
pub(super) struct Asker {
    pub(super) peer: PeerKey,
    pub(super) gateway: GatewayUrl,
    pub(super) client: Client,
    pub(super) entries: mpsc::Receiver<Vec<WantEntry>>,
    pub(super) events: mpsc::Sender<(PeerKey, PeerEvent)>,
    pub(super) counters: Arc<Counters>,
    pub(super) signs: Arc<Signs>,
}

/// What a gateway said of one want.
enum Answer {
    Block(Block),
    Presence(Presence),
    Failed(FetchError),
}

impl Asker {
    /// Asks until the exchange lets go of the gateway, nothing is wanted any more, or the gateway is of no use.
    pub(super) async fn run(mut self) -> End {
        let mut waiting: VecDeque<(Cid, WantKind)> = VecDeque::new();
        let mut asked: HashMap<Multihash, CancellationToken> = HashMap::new();
        let mut asking = FuturesUnordered::new();
        let mut failure_count = 0;
        loop {
            while asking.len() < MAX_REQUESTS
                && let Some((cid, kind)) = waiting.pop_front()
            {
                let token = CancellationToken::new();
                asked.insert(*cid.hash(), token.clone());
                let (client, gateway, signs) =
                    (self.client.clone(), self.gateway.clone(), Arc::clone(&self.signs));
                asking.push(async move {
                    (cid, token.run_until_cancelled(ask(&client, &gateway, &signs, cid, kind)).await)
                });
            }
            let is_idle = asking.is_empty();
            tokio::select! {
                entries = self.entries.recv() => {
                    let Some(entries) = entries else { return End::Idle };
                    for entry in entries {
                        take(entry, &mut waiting, &mut asked);
                    }
                    if !self.tell(PeerEvent::Ready).await {
                        return End::Idle;
                    }
                }
                Some((cid, answer)) = asking.next() => {
                    // One that was taken back may have been asked for again.
                    if asked.get(cid.hash()).is_some_and(|asked| answer.is_some() || asked.is_cancelled()) {
                        asked.remove(cid.hash());
                    }
                    let Some(answer) = answer else { continue };
                    if let Err(end) = self.on_answer(cid, answer, &mut failure_count).await {
                        return end;
                    }
                }
                () = tokio::time::sleep(IDLE_TIMEOUT), if is_idle => return End::Idle,
            }
        }
    }

    async fn on_answer(&self, cid: Cid, answer: Answer, failure_count: &mut u32) -> Result<(), End> {
        let event = match answer {
            Answer::Block(block) => {
                *failure_count = 0;
                let len_bytes = block.data().len();
                self.counters.on_received(None, 1, len_bytes);
                PeerEvent::Blocks(vec![block])
            }
            Answer::Presence(presence) => {
                *failure_count = 0;
                PeerEvent::Presences(vec![(*cid.hash(), presence)])
            }
            Answer::Failed(error) => {
                debug!(gateway = %self.gateway, %cid, %error, "gateway gave nothing");
                *failure_count += 1;
                match error {
                    FetchError::Corrupt => return Err(End::Lied),
                    FetchError::Refused => return Err(End::Failed),
                    _ if *failure_count == MAX_FAILURES => return Err(End::Failed),
                    _ => PeerEvent::Presences(vec![(*cid.hash(), Presence::DontHave)]),
                }
            }
        };
        if self.tell(event).await { Ok(()) } else { Err(End::Idle) }
    }

    /// Whether the exchange still hears.
    async fn tell(&self, event: PeerEvent) -> bool {
        self.events.send((self.peer, event)).await.is_ok()
    }
}

/// Takes a want in, or back.
fn take(
    entry: WantEntry,
    waiting: &mut VecDeque<(Cid, WantKind)>,
    asked: &mut HashMap<Multihash, CancellationToken>,
) {
    let cid = match &entry {
        WantEntry::Want { cid, .. } | WantEntry::Cancel(cid) => *cid,
    };
    // A want for the block takes the place of one for its presence.
    waiting.retain(|(known, _)| known.hash() != cid.hash());
    if let Some(asked) = asked.get(cid.hash()) {
        asked.cancel();
    }
    if let WantEntry::Want { kind, .. } = entry {
        waiting.push_back((cid, kind));
    }
}

async fn ask(client: &Client, gateway: &GatewayUrl, signs: &Signs, cid: Cid, kind: WantKind) -> Answer {
    // A block that comes slowly is a sign of life before it is there.
    let on_piece = |len_bytes| {
        signs.received_bytes.fetch_add(len_bytes as u64, Ordering::Relaxed);
    };
    let answer = match kind {
        WantKind::Block => client.block_in_pieces(gateway, &cid, on_piece).await.map(Answer::Block),
        WantKind::Have => client.has(gateway, &cid).await.map(|()| Answer::Presence(Presence::Have)),
    };
    match answer {
        Ok(answer) => answer,
        Err(FetchError::Missing(_)) => Answer::Presence(Presence::DontHave),
        Err(error) => Answer::Failed(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_gateways_over_tls_are_read_from_addresses() {
        let peer = libp2p::PeerId::random();
        for (addr, url) in [
            ("/dns4/gw.example/tcp/443/tls/http".to_owned(), Some("https://gw.example")),
            (format!("/dns/gw.example/tcp/8443/https/p2p/{peer}"), Some("https://gw.example:8443")),
            ("/dns/gw.example/tcp/443/tls/sni/other.example/http".to_owned(), Some("https://gw.example")),
            ("/ip6/2001:db8::1/tcp/443/tls/http".to_owned(), Some("https://[2001:db8::1]")),
            ("/dns/gw.example/tcp/80/http".to_owned(), None),
            ("/dns/gw.example/tcp/443/tls/ws".to_owned(), None),
            ("/dns/gw.example/udp/443/quic-v1".to_owned(), None),
            ("/dns/gw.example/tcp/443".to_owned(), None),
        ] {
            let found = gateway_of(&addr.parse().unwrap()).map(|gateway| gateway.to_string());
            assert_eq!(found.as_deref(), url, "{addr}");
        }
    }
}
