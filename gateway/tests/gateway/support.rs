//! Content in memory, made of real blocks and read by the dumbest code that can, and a client of the router.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use axum::body::Body;
use bytes::Bytes;
use cairn_gateway::tls::Tls;
use cairn_gateway::{Client, Gateway, Settings};
use cairn_proto::block::Block;
use cairn_proto::cid::{Cid, DAG_PB, HashFunction, Multihash, RAW, Version};
use cairn_proto::content::{
    CarSelection, Content, ContentError, ContentErrorKind, DagScope, Entry, NameRecord, NodeKind, PortFuture,
    PortStream, Progress, Resolved, Session, SessionOptions, Target,
};
use cairn_proto::denylist::{Denylist, Reason, Verdict};
use cairn_proto::ipns::Name;
use cairn_proto::path::{ContentPath, Root};
use cairn_proto::routing::{PeerRecord, Routing, RoutingOptions};
use cairn_proto::unixfs::hamt::Child;
use cairn_proto::unixfs::import::{
    Chunker, DirectoryBuilder, FileBuilder, ImportOptions, Profile, leaf, symlink,
};
use cairn_proto::unixfs::{self, Attributes, Mtime, Node};
use futures::StreamExt as _;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use tower::ServiceExt as _;

/// The blocks that there are, and where.
#[derive(Default, Clone)]
pub(crate) struct Store(Arc<Mutex<Blocks>>, Arc<AtomicUsize>);

#[derive(Default)]
struct Blocks {
    all: HashMap<Multihash, Block>,
    /// What only peers have.
    remote: HashSet<Multihash>,
    /// What fails with this kind.
    failing: HashMap<Multihash, ContentErrorKind>,
    /// What the operator forbids.
    denylist: Denylist,
    /// Time that each item of a stream takes.
    delay: Option<Duration>,
    /// Peers that have everything.
    peers: Vec<PeerRecord>,
    /// When files were changed.
    changed: HashMap<Multihash, Mtime>,
    /// Where names lead, and for how many seconds that is known.
    names: HashMap<String, (ContentPath, Option<u64>)>,
}

impl Store {
    pub(crate) fn put(&self, block: Block) -> Cid {
        let cid = *block.cid();
        self.keep(block);
        cid
    }

    fn keep(&self, block: Block) {
        self.0.lock().unwrap().all.insert(*block.multihash(), block);
    }

    pub(crate) fn raw(&self, data: impl Into<Bytes>) -> Cid {
        self.block(RAW, data)
    }

    pub(crate) fn block(&self, codec: u64, data: impl Into<Bytes>) -> Cid {
        self.put(Block::hash(Version::V1, codec, HashFunction::Sha2_256, data.into()).unwrap())
    }

    /// A file in chunks of that many bytes.
    pub(crate) fn file(&self, data: &[u8], chunk_bytes: usize) -> Cid {
        self.file_with(data, ImportOptions { chunker: Chunker::fixed(chunk_bytes).unwrap(), ..options() })
    }

    pub(crate) fn file_with(&self, data: &[u8], options: ImportOptions) -> Cid {
        let mut builder = FileBuilder::new(options.clone());
        for chunk in options.chunker.chunks(data) {
            let leaf = leaf(&options, Bytes::copy_from_slice(chunk)).unwrap();
            builder.push(leaf).unwrap().into_iter().for_each(|block| self.keep(block));
        }
        let built = builder.finish().unwrap();
        built.blocks.into_iter().for_each(|block| self.keep(block));
        built.cid
    }

    pub(crate) fn directory(&self, entries: &[(&str, Cid)]) -> Cid {
        self.directory_with(entries, options())
    }

    pub(crate) fn directory_with(&self, entries: &[(&str, Cid)], options: ImportOptions) -> Cid {
        let mut builder = DirectoryBuilder::new(options);
        for (name, cid) in entries {
            builder.insert(name, cid, 1536).unwrap();
        }
        let built = builder.finish().unwrap();
        built.blocks.into_iter().for_each(|block| self.keep(block));
        built.cid
    }

    pub(crate) fn symlink(&self, target: &str) -> Cid {
        self.put(symlink(&options(), target.to_owned(), None).unwrap())
    }

    /// Leaves of a file, in order.
    pub(crate) fn leaves(&self, file: &Cid) -> Vec<Cid> {
        match unixfs::decode(&self.peek(file).unwrap()).unwrap() {
            Node::File(node) if !node.children.is_empty() => {
                node.children.iter().flat_map(|child| self.leaves(&child.cid)).collect()
            }
            _ => vec![*file],
        }
    }

    /// Links of a dag-pb block.
    pub(crate) fn links(&self, cid: &Cid) -> Vec<Cid> {
        let node = cairn_proto::codec::dag_pb::PbNode::decode(self.peek(cid).unwrap().data()).unwrap();
        node.links.iter().map(|link| link.cid).collect()
    }

    /// Adds a peer that has everything.
    pub(crate) fn peer(&self, id: &str, addrs: &[&str]) {
        let addrs = addrs.iter().map(ToString::to_string).collect();
        self.0.lock().unwrap().peers.push(PeerRecord { id: id.to_owned(), addrs, protocols: Vec::new() });
    }

    /// Lets a name lead somewhere.
    pub(crate) fn name(&self, name: &str, path: &str, fresh_for_s: Option<u64>) {
        let target = (ContentPath::parse(path).unwrap(), fresh_for_s);
        self.0.lock().unwrap().names.insert(name.to_owned(), target);
    }

    /// Nobody has it any more: whoever asks for it waits.
    pub(crate) fn lose(&self, cid: &Cid) {
        self.0.lock().unwrap().all.remove(cid.hash());
    }

    /// Only peers have it.
    pub(crate) fn move_to_peers(&self, cid: &Cid) {
        self.0.lock().unwrap().remote.insert(*cid.hash());
    }

    pub(crate) fn fail(&self, cid: &Cid, kind: ContentErrorKind) {
        self.0.lock().unwrap().failing.insert(*cid.hash(), kind);
    }

    /// A file was changed so many seconds after 1970.
    pub(crate) fn modify(&self, cid: &Cid, seconds: f64) {
        let time = Duration::from_secs_f64(seconds);
        let mtime =
            Mtime { seconds: i64::try_from(time.as_secs()).unwrap(), nanos: Some(time.subsec_nanos()) };
        self.0.lock().unwrap().changed.insert(*cid.hash(), mtime);
    }

    /// Every item of a stream takes that long.
    pub(crate) fn delay(&self, delay: Duration) {
        self.0.lock().unwrap().delay = Some(delay);
    }

    /// Forbids what these rules say, and nothing else.
    pub(crate) fn deny(&self, rules: &str) {
        let mut reader = cairn_proto::denylist::Reader::new();
        reader.push(rules.as_bytes()).unwrap();
        self.0.lock().unwrap().denylist = reader.finish().unwrap().0;
    }

    pub(crate) fn heal(&self, cid: &Cid) {
        self.0.lock().unwrap().failing.remove(cid.hash());
    }

    /// Blocks read so far.
    pub(crate) fn read_count(&self) -> usize {
        self.1.load(Ordering::SeqCst)
    }

    /// Returns once any block was asked for.
    pub(crate) async fn wait_for_read(&self) {
        while self.read_count() == 0 {
            tokio::task::yield_now().await;
        }
    }

    pub(crate) fn peek(&self, cid: &Cid) -> Option<Block> {
        Block::from_identity(*cid)
            .or_else(|| self.0.lock().unwrap().all.get(cid.hash()).cloned()?.with_cid(*cid))
    }

    pub(crate) fn gateway(&self) -> Gateway {
        self.gateway_with(Settings::default())
    }

    pub(crate) fn gateway_with(&self, settings: Settings) -> Gateway {
        self.gateway_behind(settings, None)
    }

    pub(crate) fn gateway_behind(&self, settings: Settings, tls: Option<Tls>) -> Gateway {
        Gateway::new(Arc::new(self.clone()), settings, tls)
    }
}

/// Content whose parts differ.
pub(crate) fn pattern(len_bytes: usize) -> Vec<u8> {
    (0..=250).cycle().take(len_bytes).collect()
}

pub(crate) fn options() -> ImportOptions {
    ImportOptions::from_profile(Profile::UnixfsV1_2025)
}

impl Content for Store {
    fn routing(&self) -> Option<Arc<dyn Routing>> {
        Some(Arc::new(self.clone()))
    }

    fn session(&self, options: SessionOptions) -> Arc<dyn Session> {
        Arc::new(Reader { store: self.clone(), local_only: options.local_only })
    }

    fn check(&self, path: &ContentPath) -> Result<(), ContentError> {
        allowed(self.0.lock().unwrap().denylist.path(path))
    }
}

impl Routing for Store {
    fn providers(&self, _cid: &Cid, _options: RoutingOptions) -> PortStream<PeerRecord> {
        let peers = self.0.lock().unwrap().peers.clone();
        stream(peers.into_iter().map(|peer| Ok(Ok(peer))).collect())
    }

    fn peer(&self, _id: &Multihash, _options: RoutingOptions) -> PortStream<PeerRecord> {
        stream(Vec::new())
    }
}

fn allowed(verdict: Option<Verdict>) -> Result<(), ContentError> {
    let kind = match verdict {
        Some(Verdict::Deny(Reason::Unspecified)) => ContentErrorKind::Blocked,
        Some(Verdict::Deny(Reason::Legal)) => ContentErrorKind::BlockedByLaw,
        Some(Verdict::Allow) | None => return Ok(()),
    };
    Err(ContentError::new(kind, "blocked by the denylist of a test"))
}

#[derive(Clone)]
struct Reader {
    store: Store,
    local_only: bool,
}

/// A block that nobody delivers.
struct Nobody;

type Found<T> = Result<Result<T, ContentError>, Nobody>;

fn not_found(name: &str) -> ContentError {
    ContentError::new(ContentErrorKind::NotFound, format!("no link named {name:?}"))
}

impl Reader {
    fn get(&self, cid: &Cid) -> Found<Block> {
        self.store.1.fetch_add(1, Ordering::SeqCst);
        let blocks = self.store.0.lock().unwrap();
        if let Err(error) = allowed(blocks.denylist.block(cid)) {
            return Ok(Err(error));
        }
        if let Some(kind) = blocks.failing.get(cid.hash()) {
            return Ok(Err(ContentError::new(*kind, format!("{cid} fails"))));
        }
        let block =
            Block::from_identity(*cid).or_else(|| blocks.all.get(cid.hash()).cloned()?.with_cid(*cid));
        match block {
            Some(block) if !(self.local_only && blocks.remote.contains(cid.hash())) => Ok(Ok(block)),
            _ if self.local_only => {
                Ok(Err(ContentError::new(ContentErrorKind::NotLocal, format!("{cid} is not here"))))
            }
            _ => Err(Nobody),
        }
    }

    fn node(&self, cid: &Cid) -> Found<Node> {
        let corrupt = |error| ContentError::new(ContentErrorKind::Corrupt, format!("{error}"));
        Ok(self.get(cid)?.and_then(|block| unixfs::decode(&block).map_err(corrupt)))
    }

    fn entries_of(&self, node: Node, entries: &mut Vec<Entry>) -> Found<()> {
        let entry = |name: &[u8], cid, tsize: Option<u64>| Entry {
            name: String::from_utf8(name.to_vec()).unwrap(),
            cid,
            cumulative_bytes: tsize.unwrap_or_default(),
        };
        match node {
            Node::Directory(links) => {
                entries.extend(
                    links.into_iter().map(|link| entry(&link.name.unwrap_or_default(), link.cid, link.tsize)),
                );
            }
            Node::Hamt(shard) => {
                for child in shard.children() {
                    match child {
                        Child::Entry { name, link } => entries.push(entry(&name, link.cid, link.tsize)),
                        Child::Shard(shard) => {
                            let node = match self.node(shard)? {
                                Ok(node) => node,
                                Err(error) => return Ok(Err(error)),
                            };
                            if let Err(error) = self.entries_of(node, entries)? {
                                return Ok(Err(error));
                            }
                        }
                    }
                }
            }
            _ => return Ok(Err(not_found("a file has no entries"))),
        }
        Ok(Ok(()))
    }

    fn follow(&self, path: &ContentPath) -> Found<Resolved> {
        let Root::Ipfs(root) = path.root() else { unreachable!("names are refused earlier") };
        let (mut cid, mut roots) = (*root, vec![*root]);
        for (index, name) in path.segments().iter().enumerate() {
            if cid.codec() != RAW && cid.codec() != DAG_PB {
                let remainder = path.segments()[index..].to_vec();
                return Ok(Ok(Resolved {
                    cid,
                    kind: NodeKind::Data { codec: cid.codec() },
                    roots,
                    remainder,
                    attributes: Attributes::default(),
                }));
            }
            let mut entries = Vec::new();
            let step = match self.node(&cid)? {
                Ok(node @ (Node::Directory(_) | Node::Hamt(_))) => self.entries_of(node, &mut entries)?,
                Ok(_) => Err(not_found(name)),
                Err(error) => Err(error),
            };
            let next = step.and_then(|()| {
                entries.into_iter().find(|entry| entry.name == *name).ok_or_else(|| not_found(name))
            });
            match next {
                Ok(entry) => cid = entry.cid,
                Err(error) => return Ok(Err(error)),
            }
            roots.push(cid);
        }
        if cid.codec() != RAW && cid.codec() != DAG_PB {
            let kind = NodeKind::Data { codec: cid.codec() };
            return Ok(self.get(&cid)?.map(|_| Resolved {
                cid,
                kind,
                roots,
                remainder: Vec::new(),
                attributes: Attributes::default(),
            }));
        }
        let kind = |node| match node {
            Node::Raw(data) => NodeKind::File { len_bytes: data.len() as u64 },
            Node::File(file) => NodeKind::File { len_bytes: file.len_bytes },
            Node::Directory(_) | Node::Hamt(_) => NodeKind::Directory { cumulative_bytes: 0 },
            Node::Symlink(target) => {
                NodeKind::Symlink { target: String::from_utf8(target.to_vec()).unwrap() }
            }
        };
        let mtime = self.store.0.lock().unwrap().changed.get(cid.hash()).copied();
        Ok(self.node(&cid)?.map(|node| Resolved {
            cid,
            kind: kind(node),
            roots,
            remainder: Vec::new(),
            attributes: Attributes { mtime, ..Attributes::default() },
        }))
    }

    /// The parts of a file within a range; what lies outside is not touched.
    fn parts(&self, cid: &Cid, at: u64, range: &Range<u64>, out: &mut Vec<Found<Bytes>>) {
        let cut = |data: Bytes, at: u64| {
            let start = range.start.clamp(at, at + data.len() as u64) - at;
            let end = range.end.clamp(at, at + data.len() as u64) - at;
            data.slice(usize::try_from(start).unwrap()..usize::try_from(end).unwrap())
        };
        match self.node(cid) {
            Ok(Ok(Node::Raw(data))) => out.push(Ok(Ok(cut(data, at)))),
            Ok(Ok(Node::File(file))) => {
                let mut at = at;
                if !file.data.is_empty() {
                    out.push(Ok(Ok(cut(file.data.clone(), at))));
                    at += file.data.len() as u64;
                }
                for child in file.children {
                    if at < range.end && at + child.len_bytes > range.start {
                        self.parts(&child.cid, at, range, out);
                    }
                    at += child.len_bytes;
                }
            }
            Ok(Ok(_)) => out.push(Ok(Err(not_found("not a file")))),
            Ok(Err(error)) => out.push(Ok(Err(error))),
            Err(nobody) => out.push(Err(nobody)),
        }
    }

    fn car_section(block: &Block) -> Vec<u8> {
        let cid = block.cid().to_bytes();
        let mut section = varint(cid.len() + block.data().len());
        section.extend(cid);
        section.extend(block.data());
        section
    }

    fn below(&self, cid: &Cid, seen: &mut HashSet<Cid>, out: &mut Vec<Found<Bytes>>) {
        if !seen.insert(*cid) || Block::from_identity(*cid).is_some() {
            return;
        }
        match self.get(cid) {
            Ok(Ok(block)) => {
                out.push(Ok(Ok(Self::car_section(&block).into())));
                if cid.codec() == DAG_PB {
                    let node = cairn_proto::codec::dag_pb::PbNode::decode(block.data()).unwrap();
                    node.links.iter().for_each(|link| self.below(&link.cid, seen, out));
                }
            }
            Ok(Err(error)) => out.push(Ok(Err(error))),
            Err(nobody) => out.push(Err(nobody)),
        }
    }
}

fn byte(number: usize) -> u8 {
    u8::try_from(number).unwrap()
}

fn varint(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(byte(number & 0x7f) | 0x80);
        number >>= 7;
    }
    bytes.push(byte(number));
    bytes
}

/// A CARv1 header in DAG-CBOR, by hand.
pub(crate) fn car_header(root: &Cid) -> Vec<u8> {
    let cid = root.to_bytes();
    let mut header = b"\xa2\x65roots\x81\xd8\x2a\x58".to_vec();
    header.push(byte(cid.len() + 1));
    header.push(0);
    header.extend(cid);
    header.extend(b"\x67version\x01");
    [varint(header.len()), header].concat()
}

/// A CAR of these blocks.
pub(crate) fn car(root: &Cid, store: &Store, cids: &[Cid]) -> Vec<u8> {
    let sections = cids.iter().map(|cid| Reader::car_section(&store.peek(cid).unwrap()));
    [car_header(root)].into_iter().chain(sections).collect::<Vec<_>>().concat()
}

fn stream<T: Send + 'static>(items: Vec<Found<T>>) -> PortStream<T> {
    let items = futures::stream::iter(items).then(|item| async {
        // As with real content: what came before is on its way to the client by then.
        tokio::task::yield_now().await;
        match item {
            Ok(item) => item,
            Err(Nobody) => std::future::pending().await,
        }
    });
    Box::pin(items)
}

fn future<'a, T: Send + 'a>(found: Found<T>) -> PortFuture<'a, T> {
    Box::pin(async {
        match found {
            Ok(result) => result,
            Err(Nobody) => std::future::pending().await,
        }
    })
}

impl Session for Reader {
    fn name<'a>(&'a self, path: &'a ContentPath) -> PortFuture<'a, Target> {
        let Root::Ipns(name) = path.root() else {
            return future(Ok(Ok(Target { path: path.clone(), fresh_for: None })));
        };
        let known = self.store.0.lock().unwrap().names.get(name).cloned();
        future(Ok(known
            .map(|(target, fresh_for_s)| {
                let segments = target.segments().iter().chain(path.segments());
                Target {
                    path: ContentPath::new(target.root().clone(), segments).unwrap(),
                    fresh_for: fresh_for_s.map(Duration::from_secs),
                }
            })
            .ok_or_else(|| ContentError::new(ContentErrorKind::NotFound, format!("no such name, {name}")))))
    }

    fn record<'a>(&'a self, name: &'a Name) -> PortFuture<'a, NameRecord> {
        future(Ok(Ok(NameRecord {
            bytes: format!("record of {name}").into(),
            expires: SystemTime::UNIX_EPOCH,
            fresh_for: Duration::from_secs(90),
        })))
    }

    fn tar(&self, name: &str, root: &Resolved) -> PortStream<Bytes> {
        stream(vec![Ok(Ok(format!("archive of {} called {name}", root.cid).into()))])
    }

    fn resolve<'a>(&'a self, path: &'a ContentPath) -> PortFuture<'a, Resolved> {
        future(self.follow(path))
    }

    fn bytes(&self, file: &Cid, range: Range<u64>) -> PortStream<Bytes> {
        let mut parts = Vec::new();
        self.parts(file, 0, &range, &mut parts);
        let delay = self.store.0.lock().unwrap().delay;
        let parts = stream(parts).then(move |part| async move {
            if let Some(delay) = delay {
                tokio::time::sleep(delay).await;
            }
            part
        });
        Box::pin(parts)
    }

    fn entries(&self, directory: &Cid) -> PortStream<Entry> {
        let mut entries = Vec::new();
        let end = match self.node(directory) {
            Ok(Ok(node)) => self.entries_of(node, &mut entries),
            Ok(Err(error)) => Ok(Err(error)),
            Err(nobody) => Err(nobody),
        };
        let mut items: Vec<Found<Entry>> = entries.into_iter().map(|entry| Ok(Ok(entry))).collect();
        match end {
            Ok(Ok(())) => {}
            Ok(Err(error)) => items.push(Ok(Err(error))),
            Err(nobody) => items.push(Err(nobody)),
        }
        stream(items)
    }

    fn block<'a>(&'a self, cid: &'a Cid) -> PortFuture<'a, Block> {
        future(self.get(cid))
    }

    fn car(&self, path: &ContentPath, selection: CarSelection) -> PortStream<Bytes> {
        let Ok(Ok(resolved)) = self.follow(path) else { return stream(vec![Err(Nobody)]) };
        let mut items: Vec<Found<Bytes>> = vec![Ok(Ok(car_header(&resolved.cid).into()))];
        let mut seen = HashSet::new();
        for cid in resolved.roots.iter().take(resolved.roots.len() - 1) {
            seen.insert(*cid);
            items.push(self.get(cid).map(|found| found.map(|block| Self::car_section(&block).into())));
        }
        match selection.scope {
            DagScope::All => self.below(&resolved.cid, &mut seen, &mut items),
            DagScope::Block => {
                items.push(
                    self.get(&resolved.cid).map(|found| found.map(|block| Self::car_section(&block).into())),
                );
            }
            DagScope::Entity { .. } => unimplemented!("what a scope holds is not the gateway's business"),
        }
        stream(items)
    }

    fn progress(&self) -> Progress {
        Progress { peers_asked_count: 7, providers_found_count: 3, blocks_received_count: 0 }
    }
}

/// An answer with all of its body, or why the body was cut.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    /// But for the time that the response took, which is never the same.
    pub(crate) headers: HeaderMap,
    pub(crate) timing: Option<HeaderValue>,
    pub(crate) body: Result<Bytes, String>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(self.bytes()).unwrap()
    }

    pub(crate) fn bytes(&self) -> &Bytes {
        self.body.as_ref().unwrap()
    }
}

/// What a client sends.
pub(crate) struct Ask {
    method: Method,
    host: String,
    target: String,
    headers: Vec<(HeaderName, String)>,
    client: Option<IpAddr>,
}

/// A GET of a path gateway.
pub(crate) fn get(target: impl ToString) -> Ask {
    Ask {
        method: Method::GET,
        host: "127.0.0.1:8080".to_owned(),
        target: target.to_string(),
        headers: Vec::new(),
        client: None,
    }
}

impl Ask {
    /// Sent from that address.
    pub(crate) fn from(mut self, client: IpAddr) -> Self {
        self.client = Some(client);
        self
    }

    pub(crate) fn method(mut self, method: Method) -> Self {
        self.method = method;
        self
    }

    pub(crate) fn head(self) -> Self {
        self.method(Method::HEAD)
    }

    pub(crate) fn host(mut self, host: impl ToString) -> Self {
        self.host = host.to_string();
        self
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.headers.push((HeaderName::from_static(name), value.to_string()));
        self
    }

    pub(crate) fn html(self) -> Self {
        self.with("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8")
    }

    pub(crate) async fn of(self, gateway: &Gateway) -> Answer {
        let mut request = Request::builder().method(self.method).uri(self.target).header("host", self.host);
        for (name, value) in self.headers {
            request = request.header(name, value);
        }
        if let Some(client) = self.client {
            request = request.extension(Client(client));
        }
        let response = gateway.router().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let (mut parts, body) = response.into_parts();
        let timing = parts.headers.remove("server-timing");
        let body = body.collect().await.map(|body| body.to_bytes()).map_err(|error| error.to_string());
        Answer { status: parts.status, headers: parts.headers, timing, body }
    }
}
