//! Denylists in the compact format: what an operator does not serve (IPIP-383).
//!
//! One [`Denylist`] is one `.deny` file. Its rules are kept as digests in one map, about 40 bytes each, and a look-up costs a
//! few hashes, however long the list is. The last rule that matches wins.
//!
//! Source: <https://specs.ipfs.tech/compact-denylist-format/>.
//!
//! # Differences
//! A double hash of the oldest kind, of a CID rather than a multihash, holds for the content under every codec (test
//! `the_oldest_double_hashes_hold_under_every_codec`); nopfs takes it for that CID alone. Peers ask for content by its hash.
//!
//! A block whose content is known to everybody, such as the empty file, is never denied: half of all content would go with
//! it (test `what_everybody_has_is_never_denied`).

mod header;
mod reader;
mod rule;

use std::collections::{BTreeSet, HashMap};

use crate::cid::{CBOR, Cid, DAG_CBOR, DAG_JSON, DAG_PB, HashFunction, JSON, Multihash, RAW};
use crate::path::{ContentPath, Root};

pub use reader::{DenylistError, LineError, Reader};
use rule::{Key, Name};

/// Blocks that are never denied: empty files and directories, and the empty map. Source: the validator of nopfs.
const NEVER_DENIED: [&str; 7] = [
    "QmUNLLsPACCz1vLxQVkXqqLX5R1X345qqfHbsf67hvA3Nn",
    "bafyaabakaieac",
    "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku",
    "bafkqaaa",
    "QmbFMke1KXqnYyBBWxB74N4c5SBnJMVAiMNRcGu6x1AwQH",
    "bafyreigbtj4x7ip5legnfznufuopl4sg4knzc2cof6duas4b3q2fy6swua",
    "baguqeeraiqjw7i2vwntyuekgvulpp2det2kpwt6cd7tx5ayqybqpmhfk76fa",
];

/// Codecs under which a rule of the oldest kind may have been written: it hides a CID, and so the codec, but means the
/// content.
const CODECS: [u64; 6] = [RAW, DAG_PB, DAG_CBOR, DAG_JSON, CBOR, JSON];

/// What a list says of content that it knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// An exception from other rules.
    Allow,
    /// Not served.
    Deny(Reason),
}

/// Why content is denied, as far as the answer to the client differs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Reason {
    /// None that the list tells.
    #[default]
    Unspecified,
    /// The law demands it: hint `gateway_status` with the value 451.
    Legal,
}

/// The rules of one file.
#[derive(Debug, Default)]
pub struct Denylist {
    name: Option<String>,
    rules: HashMap<Key, Entry>,
    /// Lengths that the paths of prefix rules have, in bytes.
    prefix_lens: BTreeSet<usize>,
    /// Hash functions of double-hash rules; most lists have one at most.
    double_hashes: Vec<HashFunction>,
}

/// Place of a rule in its file, and its verdict in the two lowest bits: the greater one counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Entry(u32);

impl Entry {
    /// Rules of one file that can be told apart; more than a list of 100 GB has.
    const MAX_ORDER: u32 = u32::MAX >> 2;

    fn new(order: u32, verdict: Verdict) -> Self {
        let verdict = match verdict {
            Verdict::Allow => 0,
            Verdict::Deny(Reason::Unspecified) => 1,
            Verdict::Deny(Reason::Legal) => 2,
        };
        Self(order.min(Self::MAX_ORDER) << 2 | verdict)
    }

    fn verdict(self) -> Verdict {
        match self.0 & 3 {
            0 => Verdict::Allow,
            2 => Verdict::Deny(Reason::Legal),
            _ => Verdict::Deny(Reason::Unspecified),
        }
    }
}

impl Denylist {
    /// Name that the list gives itself.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Rules, exceptions included.
    pub fn rule_count(&self) -> usize {
        self.rules.len()
    }

    /// What the list says of a block; `None` if nothing.
    pub fn block(&self, cid: &Cid) -> Option<Verdict> {
        self.content(cid, "")
    }

    /// What the list says of a path; `None` if nothing. The blocks along it are another question, and so is what a name
    /// leads to.
    pub fn path(&self, path: &ContentPath) -> Option<Verdict> {
        let below = path.segments().join("/");
        match path.root() {
            Root::Ipfs(cid) => self.content(cid, &below),
            Root::Ipns(name) => self.name_path(name, &below),
        }
    }

    fn content(&self, cid: &Cid, below: &str) -> Option<Verdict> {
        if self.rules.is_empty() || (below.is_empty() && is_never_denied(cid.hash())) {
            return None;
        }
        let plain = self.below(&Key::content(cid.hash()), below);
        let hash = cid.hash();
        let doubles = self.double_hashes.iter().flat_map(|function| {
            let codecs = CODECS.into_iter().chain((!CODECS.contains(&cid.codec())).then_some(cid.codec()));
            let legacy = codecs.map(|codec| Key::legacy_content(*function, codec, hash, below));
            std::iter::once(Key::double_content(*function, hash, below)).chain(legacy)
        });
        self.last(plain.chain(doubles))
    }

    fn name_path(&self, name: &str, below: &str) -> Option<Verdict> {
        if self.rules.is_empty() {
            return None;
        }
        let names = Name::readings(name);
        let keys = names.iter().flat_map(|name| {
            let plain = self.below(&Key::name(name), below);
            let doubles = self.double_hashes.iter().flat_map(|function| {
                [Key::double_name(*function, name, below), Key::legacy_name(*function, name, below)]
            });
            plain.chain(doubles)
        });
        self.last(keys)
    }

    /// Keys of the rules for exactly that path below a root, and for each prefix of it that any rule has the length of.
    fn below<'a>(&'a self, root: &Key, below: &'a str) -> impl Iterator<Item = Key> + use<'a> {
        let root = *root;
        let prefixes =
            self.prefix_lens.range(..=below.len()).map(move |len| root.prefix(&below.as_bytes()[..*len]));
        std::iter::once(root.exact(below.as_bytes())).chain(prefixes)
    }

    fn last(&self, keys: impl Iterator<Item = Key>) -> Option<Verdict> {
        keys.filter_map(|key| self.rules.get(&key)).max().map(|entry| entry.verdict())
    }

    fn insert(&mut self, key: Key, entry: Entry) {
        self.rules.insert(key, entry);
    }
}

fn is_never_denied(hash: &Multihash) -> bool {
    static HASHES: std::sync::LazyLock<Vec<Multihash>> = std::sync::LazyLock::new(|| {
        NEVER_DENIED.iter().map(|cid| *crate::cid::parse(cid).expect("the list holds CIDs").hash()).collect()
    });
    HASHES.contains(hash)
}

#[cfg(test)]
mod tests;
