//! Mode and time of a file, as the name of a field carries them: `file?mode=0644&mtime=1700000000&mtime-nsecs=5`.
//!
//! Source: boxo `files/multifilereader.go` and `multipartfile.go`. The mode is in octal, and it is that of Go: its bits beyond
//! the permissions are not where Unix has them.

use std::fmt::Write as _;

use cairn_proto::unixfs::{Attributes, Mtime};

use crate::command::query::Query;
use crate::error::{Error, Result};

/// Reads the attributes in the name of a field.
///
/// # Errors
/// A number that is none.
pub(super) fn decode(name: &str) -> Result<Attributes> {
    let Some((_, query)) = name.split_once('?') else { return Ok(Attributes::default()) };
    let query = Query::parse(query)?;
    let invalid = |key: &str| Error::client(format!("invalid {key} of a file"));
    let mode = query.option("mode", "")?.map(|text| u32::from_str_radix(text, 8));
    let seconds = query.option("mtime", "")?.map(str::parse::<i64>);
    let nanos = query.option("mtime-nsecs", "")?.map(str::parse::<u32>);
    let mode = mode.transpose().map_err(|_| invalid("mode"))?;
    let seconds = seconds.transpose().map_err(|_| invalid("mtime"))?;
    let nanos = nanos.transpose().map_err(|_| invalid("mtime-nsecs"))?.filter(|nanos| *nanos > 0);
    Ok(Attributes { mode: mode.map(from_go), mtime: seconds.map(|seconds| Mtime { seconds, nanos }) })
}

/// What follows the name of a field.
pub(super) fn encode(attributes: Attributes) -> String {
    let mut query = String::new();
    let mut put = |key: &str, value: String| {
        let separator = if query.is_empty() { '?' } else { '&' };
        // A `String` takes every write.
        let _ = write!(query, "{separator}{key}={value}");
    };
    if let Some(mode) = attributes.mode {
        put("mode", format!("0{:o}", to_go(mode)));
    }
    if let Some(Mtime { seconds, nanos }) = attributes.mtime {
        put("mtime", seconds.to_string());
        if let Some(nanos) = nanos {
            put("mtime-nsecs", nanos.to_string());
        }
    }
    query
}

/// Permissions of Unix from Go's: set-user, set-group and sticky stand higher there.
pub(crate) fn from_go(mode: u32) -> u32 {
    (mode & 0x00c0_0000) >> 12 | (mode & 0x0010_0000) >> 11 | (mode & 0o777)
}

fn to_go(mode: u32) -> u32 {
    (mode & 0o6000) << 12 | (mode & 0o1000) << 11 | (mode & 0o777)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_of_kubos_client_are_read() {
        // Source: what `ipfs add --preserve-mode --preserve-mtime` of Kubo 0.43 sends to its daemon.
        let name = "file?mode=040000644&mtime=1700000000&mtime-nsecs=500000000";
        let mtime = Mtime { seconds: 1_700_000_000, nanos: Some(500_000_000) };
        assert_eq!(decode(name).unwrap(), Attributes { mode: Some(0o4644), mtime: Some(mtime) });
        assert_eq!(decode("file?mode=020000000755").unwrap().mode, Some(0o755));
        assert_eq!(decode("file").unwrap(), Attributes::default());
        for name in ["file?mode=9", "file?mode=", "file?mtime=x", "file?mtime=1&mtime-nsecs=-1"] {
            assert!(decode(name).is_err(), "{name}");
        }
    }

    #[test]
    fn every_permission_survives_the_trip() {
        for mode in [0, 0o644, 0o777, 0o1000, 0o2000, 0o4000, 0o7777] {
            let attributes = Attributes { mode: Some(mode), mtime: Some(Mtime { seconds: -5, nanos: None }) };
            assert_eq!(decode(&format!("file{}", encode(attributes))).unwrap(), attributes);
        }
    }
}
