//! The keys of a Kubo repo: one file each, `key_` and the name in base32, its content the key as libp2p writes it.
//!
//! They are copied as they are, since names of other keys than the node's own cannot be published yet.
//!
//! Source: boxo `keystore`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use libp2p::identity::Keypair;
use multibase::Base;

use super::KuboEvent;
use crate::{Error, Result};

/// Folder of keys in a repo, of Kubo's as of ours.
pub(super) const FOLDER: &str = "keystore";

const PREFIX: &str = "key_";

/// Longest file of a key, in bytes; the longest RSA keys have some thousand.
const MAX_KEY_BYTES: u64 = 64 * 1024;

/// Copies the keys in one folder to another; tells of each. Blocks its thread.
///
/// # Errors
/// What the disk says when it writes.
pub(super) fn copy(from: &Path, to: &Path) -> Result<Vec<KuboEvent>> {
    let entries = match fs::read_dir(from) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::invalid("Kubo's keys cannot be read").with_cause(error)),
    };
    let mut told = Vec::new();
    for entry in entries {
        let path =
            entry.map_err(|error| Error::invalid("Kubo's keys cannot be read").with_cause(error))?.path();
        let Some(file) = path.file_name().and_then(|name| name.to_str()) else { continue };
        told.push(match take(&path, file, to)? {
            Ok((name, peer_id)) => KuboEvent::Key { name, peer_id },
            Err(reason) => KuboEvent::BadKey { file: file.to_owned(), reason },
        });
    }
    Ok(told)
}

/// Copies one key; gives its name and peer ID, or why it was not copied.
fn take(path: &Path, file: &str, to: &Path) -> Result<Result<(String, String), String>> {
    let read = || {
        let encoded = file.strip_prefix(PREFIX).ok_or("its name does not begin as that of a key")?;
        let name = Base::Base32Lower.decode(encoded).map_err(|error| error.to_string())?;
        let name = String::from_utf8(name).map_err(|error| error.to_string())?;
        if fs::metadata(path).map_err(|error| error.to_string())?.len() > MAX_KEY_BYTES {
            return Err("it is too long".to_owned());
        }
        let key = fs::read(path).map_err(|error| error.to_string())?;
        let pair = Keypair::from_protobuf_encoding(&key).map_err(|error| error.to_string())?;
        Ok((name, pair.public().to_peer_id().to_string(), key))
    };
    let (name, peer_id, key) = match read() {
        Ok(read) => read,
        Err(reason) => return Ok(Err(reason)),
    };
    let target = to.join(file);
    match fs::read(&target) {
        Ok(here) if here == key => return Ok(Ok((name, peer_id))),
        Ok(_) => return Ok(Err("there is another key of that name".to_owned())),
        Err(_) => {}
    }
    let failed = |error| Error::invalid(format!("cannot write {}", target.display())).with_cause(error);
    write(to, &target, &key).map_err(failed)?;
    Ok(Ok((name, peer_id)))
}

/// Writes a file that only we may read, whole or not at all.
fn write(folder: &Path, target: &Path, key: &[u8]) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let unfinished = target.with_extension("new");
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
    file.write_all(key)?;
    file.sync_all()?;
    fs::rename(&unfinished, target)?;
    // A rename alone may not survive a crash.
    File::open(folder)?.sync_all()
}
