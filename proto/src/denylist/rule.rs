//! One line of a list, and the digests that lines and requests are compared by. Pure.

use multibase::Base;
use percent_encoding::percent_decode_str;

use super::reader::LineError;
use crate::cid::{self, Cid, HashFunction, LIBP2P_KEY, Multihash, SHA2_256};

/// What a rule matches, as the first bytes of a digest: nobody can make content that collides with a given rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key([u8; 16]);

impl Key {
    /// The root of rules for content, whatever its codec.
    pub(super) fn content(hash: &Multihash) -> Self {
        Self::of(HashFunction::Sha2_256, &[b"content:".as_slice(), &hash.to_bytes()].concat())
    }

    /// The root of rules for a name.
    pub(super) fn name(name: &Name) -> Self {
        match name {
            Name::Key(hash) => {
                Self::of(HashFunction::Sha2_256, &[b"key:".as_slice(), &hash.to_bytes()].concat())
            }
            Name::Domain(domain) => Self::of(HashFunction::Sha2_256, format!("domain:{domain}").as_bytes()),
        }
    }

    /// The rule for one path below this root.
    pub(super) fn exact(&self, below: &[u8]) -> Self {
        if below.is_empty() { *self } else { self.with(b'/', below) }
    }

    /// The rule for all paths below this root that start so.
    pub(super) fn prefix(&self, below: &[u8]) -> Self {
        self.with(b'*', below)
    }

    fn with(self, kind: u8, below: &[u8]) -> Self {
        Self::of(HashFunction::Sha2_256, &[self.0.as_slice(), &[kind], below].concat())
    }

    /// A double hash that stands in a list.
    fn double(hash: &Multihash) -> Option<Self> {
        let digest = hash.digest().get(..16)?;
        digest.try_into().ok().map(Self)
    }

    /// The double hash of content: of its multihash in base58, and the path.
    pub(super) fn double_content(function: HashFunction, hash: &Multihash, below: &str) -> Self {
        Self::of(function, joined(&base58(hash), below).as_bytes())
    }

    /// The double hash of content as badbits had it: of its CID of version 1 in base32, a slash and the path.
    pub(super) fn legacy_content(function: HashFunction, codec: u64, hash: &Multihash, below: &str) -> Self {
        let cid = Cid::new_v1(codec, *hash);
        Self::of(function, format!("{cid}/{below}").as_bytes())
    }

    /// The double hash of a name.
    pub(super) fn double_name(function: HashFunction, name: &Name, below: &str) -> Self {
        let text = match name {
            Name::Key(hash) => joined(&base58(hash), below),
            Name::Domain(domain) => joined(&format!("/ipns/{domain}"), below),
        };
        Self::of(function, text.as_bytes())
    }

    /// The double hash of a name as badbits had it.
    pub(super) fn legacy_name(function: HashFunction, name: &Name, below: &str) -> Self {
        match name {
            Name::Key(hash) => Self::legacy_content(function, LIBP2P_KEY, hash, below),
            Name::Domain(domain) => Self::of(function, format!("{domain}/{below}").as_bytes()),
        }
    }

    fn of(function: HashFunction, data: &[u8]) -> Self {
        Self::double(&function.multihash(data)).expect("every digest has 16 bytes at least")
    }
}

fn base58(hash: &Multihash) -> String {
    Base::Base58Btc.encode(hash.to_bytes())
}

fn joined(root: &str, below: &str) -> String {
    if below.is_empty() { root.to_owned() } else { format!("{root}/{below}") }
}

/// What stands behind `/ipns/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Name {
    Key(Multihash),
    /// In lower case, without the dot of the root zone.
    Domain(String),
}

impl Name {
    fn parse(text: &str) -> Self {
        // A key is written as a CID or as a bare multihash in base58.
        let bare = || Multihash::from_bytes(&Base::Base58Btc.decode(text).ok()?).ok();
        match cid::decode_text(text).ok().map(|cid| *cid.hash()).or_else(bare) {
            Some(hash) => Self::Key(hash),
            None => Self::Domain(text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase()),
        }
    }

    /// What the name of a request may mean: `my-site-org` may be `my.site.org`, inlined into one label of a host.
    pub(super) fn readings(text: &str) -> Vec<Self> {
        let name = Self::parse(text);
        let inlined = match &name {
            Self::Domain(domain) if !domain.contains('.') && domain.contains('-') => {
                // Hyphens were doubled, then dots became hyphens.
                Some(Self::Domain(domain.replace("--", "\0").replace('-', ".").replace('\0', "-")))
            }
            _ => None,
        };
        std::iter::once(name).chain(inlined).collect()
    }
}

/// What one line matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// One path below a root, or the root itself.
    Exact(Key),
    /// Paths that start so, with the length of that start in bytes.
    Prefix(Key, usize),
    /// A double hash.
    Double(HashFunction, Key),
}

/// The parts of a line.
#[derive(Debug)]
pub(super) struct Rule<'a> {
    pub(super) is_exception: bool,
    pub(super) targets: Vec<Target>,
    /// Words behind the rule.
    pub(super) hints: std::str::SplitWhitespace<'a>,
}

impl<'a> Rule<'a> {
    /// Reads a line that is neither empty nor a comment.
    pub(super) fn parse(line: &'a str) -> Result<Self, LineError> {
        let mut words = line.split_whitespace();
        let item = words.next().ok_or(LineError::NotARule)?;
        let (is_exception, item) = item.strip_prefix('!').map_or((false, item), |item| (true, item));
        let targets = if let Some(hash) = item.strip_prefix("//") {
            double(hash)?
        } else if let Some(rest) = item.strip_prefix("/ipfs/") {
            let (root, below) = rest.split_once('/').unwrap_or((rest, ""));
            let cid = cid::decode_text(root).map_err(|_| LineError::NotACid)?;
            vec![below_root(&Key::content(cid.hash()), below)]
        } else if let Some(rest) = item.strip_prefix("/ipns/") {
            let (name, below) = rest.split_once('/').unwrap_or((rest, ""));
            vec![below_root(&Key::name(&Name::parse(name)), below)]
        } else {
            return Err(LineError::NotARule);
        };
        Ok(Self { is_exception, targets, hints: words })
    }
}

fn below_root(root: &Key, path: &str) -> Target {
    let decode = |path: &str| percent_decode_str(path.trim_matches('/')).collect::<Vec<u8>>();
    match path.strip_suffix('*') {
        Some(start) => {
            let start = decode(start);
            Target::Prefix(root.prefix(&start), start.len())
        }
        None => Target::Exact(root.exact(&decode(path))),
    }
}

/// The old form in hexadecimal and the new one in base58 can look alike; then both are meant.
fn double(text: &str) -> Result<Vec<Target>, LineError> {
    let hex = (text.len() == 64).then(|| Base::Base16Lower.decode(text.to_ascii_lowercase()).ok()).flatten();
    let hex = hex.and_then(|digest| Multihash::wrap(SHA2_256, &digest).ok());
    let base58 = Base::Base58Btc.decode(text).ok().and_then(|bytes| Multihash::from_bytes(&bytes).ok());
    let targets: Vec<_> = [hex, base58]
        .into_iter()
        .flatten()
        .filter_map(|hash| {
            let function = HashFunction::from_code(hash.code()).ok()?;
            Some(Target::Double(function, Key::double(&hash)?))
        })
        .collect();
    if targets.is_empty() { Err(LineError::NotAHash) } else { Ok(targets) }
}
