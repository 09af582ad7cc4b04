//! The repo's `config` file: a JSON document with Kubo's key names.
//!
//! Invariant: keys that Cairn does not read are kept as they are, so a Kubo configuration can be carried over. The file
//! holds the private key, so it is readable by its owner only, and is replaced as a whole or not at all.
//!
//! `docs/CONFIG.md` lists the keys. [`profile`] has the named sets of changes, [`http`] what the servers read.

pub mod http;
pub mod import;
pub mod profile;

mod defaults;
mod node;
mod reach;

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::path::Path;

use libp2p::identity::Keypair;
use multibase::Base;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::error::{Error, Kind, Result};

pub use defaults::{BOOTSTRAP, DEFAULT_BLOCK_TIMEOUT, DEFAULT_MAX_MEMORY_BYTES};

/// Name of the file inside the repo.
pub const FILE_NAME: &str = "config";

/// Keys that are never shown nor changed through an interface; `*` stands for any one name.
const SECRETS: [&[&str]; 3] = [
    &["Identity", "PrivKey"],
    &["API", "Authorizations", "*", "AuthSecret"],
    &["Pinning", "RemoteServices", "*", "API", "Key"],
];

/// A configuration.
#[derive(Clone, PartialEq)]
pub struct Config {
    document: Map<String, Value>,
}

impl Config {
    /// The defaults with a given identity.
    pub fn new(identity: &Keypair) -> Self {
        Self { document: defaults::document(identity) }
    }

    /// The defaults with an identity of its own, made now.
    pub fn generate() -> Self {
        Self::new(&Keypair::generate_ed25519())
    }

    /// Parses a document. Does not look at its values; [`Self::check`] does.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for text that is no JSON object.
    pub fn parse(text: &str) -> Result<Self> {
        let document = serde_json::from_str(text)
            .map_err(|error| Error::invalid("the configuration is no JSON object").with_cause(error))?;
        Ok(Self { document })
    }

    /// Reads the `config` file of a repo.
    ///
    /// # Errors
    /// [`Kind::NotFound`] without such a file, [`Kind::Invalid`] when it is no JSON object.
    pub fn load(repo: &Path) -> Result<Self> {
        let path = repo.join(FILE_NAME);
        match fs::read_to_string(&path) {
            Ok(text) => Self::parse(&text)
                .map_err(|error| Error::invalid(format!("cannot read {}", path.display())).with_cause(error)),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                Err(Error::not_found(format!("no repo at {}; make one with `cairn init`", repo.display())))
            }
            Err(error) => Err(unusable(&path, error)),
        }
    }

    /// Writes the `config` file of a repo: as a whole, durable, readable by its owner only.
    ///
    /// # Errors
    /// [`Kind::Full`] on a full disk, otherwise [`Kind::Unavailable`]; the former file stays.
    pub fn save(&self, repo: &Path) -> Result<()> {
        let path = repo.join(FILE_NAME);
        let fresh = repo.join(format!("{FILE_NAME}.new"));
        let write = || {
            let mut options = OpenOptions::new();
            options.write(true).create(true).truncate(true);
            #[cfg(unix)]
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
            let mut file = options.open(&fresh)?;
            file.write_all(self.to_string().as_bytes())?;
            file.write_all(b"\n")?;
            file.sync_all()?;
            fs::rename(&fresh, &path)?;
            // fsync the folder: a rename alone may not survive a crash.
            File::open(repo)?.sync_all()
        };
        write().map_err(|error| unusable(&path, error))
    }

    /// Reads the file, lets `change` change it, checks it and writes it back. Two such changes never overlap.
    ///
    /// # Errors
    /// As [`Self::load`], `change`, [`Self::check`] and [`Self::save`]; the file is unchanged then.
    pub fn edit<T>(repo: &Path, change: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let path = repo.join(format!("{FILE_NAME}.lock"));
        let lock = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
        let lock = match lock.and_then(|file| file.lock().map(|()| file)) {
            Ok(lock) => lock,
            Err(error) if !repo.join(FILE_NAME).exists() => {
                return Self::load(repo).and(Err(unusable(&path, error)));
            }
            Err(error) => return Err(unusable(&path, error)),
        };
        let mut config = Self::load(repo)?;
        let result = change(&mut config)?;
        config.check()?;
        config.save(repo)?;
        drop(lock);
        Ok(result)
    }

    /// The value at a dotted key (`Swarm.ConnMgr.HighWater`); `None` when there is none.
    pub fn get(&self, key: &str) -> Option<&Value> {
        let mut parts = key.split('.');
        let first = self.document.get(parts.next()?)?;
        parts.try_fold(first, |value, part| value.get(part))
    }

    /// Sets the value at a dotted key, making the objects on its way.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for a key that is empty, secret, part of the identity or below a value that is no object.
    pub fn set(&mut self, key: &str, value: Value) -> Result<()> {
        if key == "Identity" || key.starts_with("Identity.") || is_secret(key) {
            return Err(Error::invalid(format!("this key cannot be shown or changed here, key={key}")));
        }
        self.put(key, value)
    }

    /// The same configuration with values from the environment laid over it: pairs of a key, its parts separated by two
    /// underscores (`Swarm__ConnMgr__HighWater`), and a text, which is JSON or else a plain string.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for a key that cannot be set.
    pub fn with_overrides<K: AsRef<str>, V: AsRef<str>>(
        &self,
        overrides: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Self> {
        let mut config = self.clone();
        for (key, text) in overrides {
            let text = text.as_ref();
            let value = serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()));
            config.put(&key.as_ref().replace("__", "."), value)?;
        }
        Ok(config)
    }

    /// Replaces everything but the identity, and but the secrets that `other` leaves out.
    pub fn replace(&mut self, other: Self) {
        let former = std::mem::replace(self, other);
        if let Some(identity) = former.document.get("Identity") {
            self.document.insert("Identity".to_owned(), identity.clone());
        }
        for secret in SECRETS {
            restore(&mut self.document, &former.document, secret);
        }
    }

    /// Takes the identity of another configuration, as of a Kubo node that this one follows.
    ///
    /// # Errors
    /// [`Kind::Invalid`] when it has no key that can be read, or one of another peer.
    pub fn adopt_identity(&mut self, other: &Self) -> Result<()> {
        other.peer_id()?;
        let identity = other.get("Identity").cloned().unwrap_or_default();
        self.document.insert("Identity".to_owned(), identity);
        Ok(())
    }

    /// The document without its secrets.
    pub fn public(&self) -> Value {
        let mut document = self.document.clone();
        for secret in SECRETS {
            remove(&mut document, secret);
        }
        Value::Object(document)
    }

    /// Dotted keys whose values differ in `other`, each to its end.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let mut keys = Vec::new();
        compare("", &self.document, &other.document, &mut keys);
        keys
    }

    /// Reads the value at a dotted key as `T`; `None` when it is missing or null.
    ///
    /// # Errors
    /// [`Kind::Invalid`], naming the key, when the value has another type.
    pub fn read<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        match self.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => T::deserialize(value).map(Some).map_err(|error| invalid(key, error)),
        }
    }

    /// Reads a text and parses it; `None` when it is missing, null or empty.
    ///
    /// # Errors
    /// [`Kind::Invalid`], naming the key.
    pub fn read_with<T, E: std::fmt::Display>(
        &self,
        key: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<Option<T>> {
        match self.read::<String>(key)? {
            None => Ok(None),
            Some(text) if text.is_empty() => Ok(None),
            Some(text) => parse(&text).map(Some).map_err(|error| invalid(key, error)),
        }
    }

    /// Reads a list of texts and parses each; empty when it is missing or null. A single text counts as a list of one.
    ///
    /// # Errors
    /// [`Kind::Invalid`], naming the key.
    pub fn read_list<T, E: std::fmt::Display>(
        &self,
        key: &str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Result<Vec<T>> {
        let texts = match self.get(key) {
            Some(Value::String(text)) => vec![text.clone()],
            _ => self.read::<Vec<String>>(key)?.unwrap_or_default(),
        };
        texts.iter().map(|text| parse(text).map_err(|error| invalid(key, error))).collect()
    }

    /// Reads every key that Cairn knows.
    ///
    /// # Errors
    /// [`Kind::Invalid`], naming the first key whose value is wrong.
    pub fn check(&self) -> Result<()> {
        self.to_settings(Path::new(""))?;
        self.rpc()?;
        self.gateway()?;
        self.upstream()?;
        self.import()?;
        Ok(())
    }

    fn put(&mut self, key: &str, value: Value) -> Result<()> {
        let (parents, name) =
            key.rsplit_once('.').map_or((None, key), |(parents, name)| (Some(parents), name));
        if key.split('.').any(str::is_empty) {
            return Err(Error::invalid(format!("not a key: {key:?}; write it as Datastore.StorageMax")));
        }
        let mut object = &mut self.document;
        for part in parents.into_iter().flat_map(|parents| parents.split('.')) {
            let below = object.entry(part).or_insert(Value::Null);
            if below.is_null() {
                *below = Value::Object(Map::new());
            }
            object = below
                .as_object_mut()
                .ok_or_else(|| Error::invalid(format!("no such key: {part} is not an object, key={key}")))?;
        }
        object.insert(name.to_owned(), value);
        Ok(())
    }
}

/// The document as it is stored, private key included.
impl std::fmt::Display for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(
            &serde_json::to_string_pretty(&self.document).expect("a map of JSON values has a text form"),
        )
    }
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Config({})", self.public())
    }
}

/// Text form of a key pair, as `Identity.PrivKey` holds it.
pub(crate) fn encode_key(identity: &Keypair) -> String {
    Base::Base64Pad.encode(identity.to_protobuf_encoding().expect("a key pair of ours has a protobuf form"))
}

/// Reverses [`encode_key`].
pub(crate) fn decode_key(text: &str) -> Result<Keypair, String> {
    let bytes = Base::Base64Pad.decode(text).map_err(|error| error.to_string())?;
    Keypair::from_protobuf_encoding(&bytes).map_err(|error| error.to_string())
}

fn invalid(key: &str, error: impl std::fmt::Display) -> Error {
    // The value is left out: it may be a secret.
    Error::invalid(format!("invalid configuration, key={key}: {error}"))
}

fn unusable(path: &Path, error: std::io::Error) -> Error {
    let kind = match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Kind::Full,
        _ => Kind::Unavailable,
    };
    Error::new(kind, format!("cannot use {}", path.display())).with_cause(error)
}

fn is_secret(key: &str) -> bool {
    SECRETS.iter().any(|secret| {
        secret.len() == key.split('.').count()
            && secret.iter().zip(key.split('.')).all(|(s, k)| *s == "*" || *s == k)
    })
}

fn compare(prefix: &str, one: &Map<String, Value>, other: &Map<String, Value>, keys: &mut Vec<String>) {
    let empty = Map::new();
    let names = one.keys().chain(other.keys().filter(|name| !one.contains_key(*name)));
    for name in names {
        let (a, b) = (one.get(name), other.get(name));
        let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        match (a, b) {
            (Some(Value::Object(a)), Some(Value::Object(b))) => compare(&key, a, b, keys),
            (Some(Value::Object(a)), None) => compare(&key, a, &empty, keys),
            (None, Some(Value::Object(b))) => compare(&key, &empty, b, keys),
            _ if a != b => keys.push(key),
            _ => {}
        }
    }
}

fn remove(object: &mut Map<String, Value>, path: &[&str]) {
    let [first, rest @ ..] = path else { return };
    if rest.is_empty() {
        object.remove(*first);
        return;
    }
    for (name, value) in object.iter_mut() {
        if (*first == "*" || name == first)
            && let Value::Object(below) = value
        {
            remove(below, rest);
        }
    }
}

fn restore(object: &mut Map<String, Value>, former: &Map<String, Value>, path: &[&str]) {
    let [first, rest @ ..] = path else { return };
    if rest.is_empty() {
        if let (false, Some(value)) = (object.contains_key(*first), former.get(*first)) {
            object.insert((*first).to_owned(), value.clone());
        }
        return;
    }
    for (name, value) in object.iter_mut() {
        if (*first == "*" || name == first)
            && let (Value::Object(below), Some(Value::Object(former))) = (value, former.get(name))
        {
            restore(below, former, rest);
        }
    }
}

#[cfg(test)]
mod tests;
