//! Pins and the root of files in Kubo's LevelDB.
//!
//! Source: boxo `pinning/pinner/dspinner` (a pin is CBOR with `cid`, `mode` and, if it has one, `name`), and Kubo
//! `core/node/core.go` (the root of files is a binary CID).

use std::path::PathBuf;
use std::rc::Rc;

use bytes::Bytes;
use cairn_proto::cid::{self, CBOR, Cid};
use cairn_proto::codec::{self, Value};
use rusty_leveldb::{DB, LdbIterator as _, Options};
use tokio::sync::mpsc;

use super::overlay::Overlay;
use crate::pins::{Pin, PinKind};
use crate::{Error, Result};

const PINS: &[u8] = b"/pins/pin/";
const FILES_ROOT: &[u8] = b"/local/filesroot";

/// Something in the datastore that is taken over.
#[derive(Debug)]
pub(super) enum Found {
    Pin(Pin),
    /// The root of files.
    Files(Cid),
    /// A row that cannot be read.
    Bad {
        key: String,
        reason: &'static str,
    },
}

/// Reads what `folder` holds: pins first. Blocks its thread; ends when nobody listens.
pub(super) fn read(folder: PathBuf, found: &mpsc::Sender<Found>) -> Result<()> {
    let unreadable =
        |error: rusty_leveldb::Status| Error::corrupt("Kubo's datastore cannot be read").with_cause(error);
    if folder.to_str().is_none() {
        return Err(Error::invalid(format!(
            "the path of Kubo's repo is not UTF-8, path={}",
            folder.display()
        )));
    }
    let options = Options {
        env: Rc::new(Box::new(Overlay::new(folder.clone()))),
        create_if_missing: false,
        // What is written while it is opened goes to memory, so nothing is written on.
        reuse_logs: false,
        reuse_manifest: false,
        ..Options::default()
    };
    let mut db = DB::open(&folder, options).map_err(unreadable)?;
    let mut rows = db.new_iter().map_err(unreadable)?;
    rows.seek(PINS);
    while let Some((key, value)) = rows.current()
        && key.starts_with(PINS)
    {
        let found_here = match pin(value) {
            Ok(pin) => Found::Pin(pin),
            Err(reason) => Found::Bad { key: String::from_utf8_lossy(&key).into_owned(), reason },
        };
        if found.blocking_send(found_here).is_err() || !rows.advance() {
            break;
        }
    }
    if let Some(root) = db.get(FILES_ROOT) {
        let found_here = cid::decode(&root).map_or_else(
            |_| Found::Bad { key: String::from_utf8_lossy(FILES_ROOT).into_owned(), reason: "it is no CID" },
            Found::Files,
        );
        // Nobody listens any more: then nobody misses it.
        let _ = found.blocking_send(found_here);
    }
    Ok(())
}

fn pin(row: Bytes) -> Result<Pin, &'static str> {
    let value = codec::decode(CBOR, &row).map_err(|_| "it is not CBOR")?;
    let Some(Value::Bytes(cid)) = value.get("cid") else { return Err("it has no CID") };
    let cid = cid::decode(cid).map_err(|_| "its CID cannot be read")?;
    let kind = match value.get("mode") {
        Some(Value::Integer(0)) => PinKind::Recursive,
        Some(Value::Integer(1)) => PinKind::Direct,
        _ => return Err("it is neither recursive nor direct"),
    };
    let name = match value.get("name") {
        Some(Value::String(name)) if !name.is_empty() => Some(name.clone()),
        _ => None,
    };
    Ok(Pin { cid, kind, name })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_are_read_as_kubo_wrote_them() {
        // Source: rows of the datastore of Kubo 0.43, after `ipfs pin add`, with `--name` and `--recursive=false` too.
        let row = |hex: &str| Bytes::from(multibase::Base::Base16Lower.decode(hex).unwrap());
        let read = pin(row("a26363696448017000040a020801646d6f646500")).unwrap();
        assert_eq!(
            (read.cid.to_string().as_str(), read.kind, read.name),
            ("bafyaabakaieac", PinKind::Recursive, None)
        );
        let read = pin(row("a36363696458221220b882c6a123489dbab6352e554e55b4f40126888580ed097d8fc4ce78d4b09e41646d6f646501646e616d656161")).unwrap();
        assert_eq!(read.cid.to_string(), "QmakuPGh66zxnBxaG9cXFEqrWJoChHkKQFPhFm55aJbMsW");
        assert_eq!((read.kind, read.name.as_deref()), (PinKind::Direct, Some("a")));
        for bad in [
            "",
            "f6",
            "a0",
            "a1646d6f646500",
            "a26363696448017000040a020801646d6f646502",
            "a2636369644101646d6f646500",
        ] {
            assert!(pin(row(bad)).is_err(), "{bad}");
        }
    }
}
