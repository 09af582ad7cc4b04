//! Archives: the heads of a POSIX `ustar` file with PAX records for what does not fit.
//!
//! Source: IEEE Std 1003.1-2017, `pax` (Interchange Formats). A time that is not known is 0, so one DAG always gives the same
//! archive.

use bytes::{BufMut as _, Bytes, BytesMut};

use crate::unixfs::{Attributes, Mtime};

/// Length of a head and unit of padding, in bytes.
const BLOCK: usize = 512;

/// Largest size that eleven octal digits hold, in bytes.
const MAX_OCTAL: u64 = 0o77_777_777_777;

const NANOS_PER_SECOND: u32 = 1_000_000_000;

/// Longest path and link target in a plain head, in bytes.
const MAX_NAME: usize = 100;

/// Why a name cannot stand in an archive.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a name leaves the archive or holds a NUL byte, name={name:?}")]
pub struct NameError {
    name: String,
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind<'a> {
    /// A folder.
    Directory,
    /// A file of so many bytes.
    File(u64),
    /// A link and its target.
    Symlink(&'a str),
}

/// The end of an archive.
pub fn end() -> Bytes {
    Bytes::from_static(&[0; 2 * BLOCK])
}

/// What stands behind a file of that length.
pub fn padding(len_bytes: u64) -> Bytes {
    const ZEROS: [u8; BLOCK] = [0; BLOCK];
    let used = usize::try_from(len_bytes % BLOCK as u64).expect("less than a block");
    Bytes::from_static(&ZEROS).slice(..(BLOCK - used) % BLOCK)
}

/// What stands before an entry's content. Where no mode is known, it is the usual one of its kind.
pub fn head(path: &str, kind: Kind<'_>, attributes: Attributes) -> Bytes {
    let path = match kind {
        Kind::Directory => format!("{path}/"),
        _ => path.to_owned(),
    };
    let (flag, mode, size, target) = match kind {
        Kind::Directory => (b'5', 0o755, 0, ""),
        Kind::File(size) => (b'0', 0o644, size, ""),
        Kind::Symlink(target) => (b'2', 0o777, 0, target),
    };
    let mode = attributes.mode.unwrap_or(mode);
    let (mtime, mtime_record) = time(attributes.mtime);
    let mut records = String::new();
    for (key, value, fits) in [
        ("path", path.as_str(), path.len() <= MAX_NAME && path.is_ascii()),
        ("linkpath", target, target.len() <= MAX_NAME && target.is_ascii()),
        ("size", &size.to_string(), size <= MAX_OCTAL),
        ("mtime", mtime_record.as_deref().unwrap_or_default(), mtime_record.is_none()),
    ] {
        if !fits {
            records += &record(key, value);
        }
    }
    let mut out = BytesMut::new();
    if !records.is_empty() {
        let plain = Plain {
            path: "PaxHeaders/0",
            target: "",
            flag: b'x',
            mode: 0o644,
            size: records.len() as u64,
            mtime: 0,
        };
        plain.put(&mut out);
        out.put_slice(records.as_bytes());
        out.put_slice(&padding(records.len() as u64));
    }
    Plain { path: &path, target, flag, mode, size, mtime }.put(&mut out);
    out.freeze()
}

/// A time as a plain head has it, and its record where that is not all of it.
fn time(mtime: Option<Mtime>) -> (u64, Option<String>) {
    let Some(Mtime { seconds, nanos }) = mtime else { return (0, None) };
    let nanos = nanos.filter(|nanos| (1..NANOS_PER_SECOND).contains(nanos));
    let plain = u64::try_from(seconds).ok().filter(|seconds| *seconds <= MAX_OCTAL);
    let record = match nanos {
        None if plain.is_some() => None,
        None => Some(seconds.to_string()),
        Some(nanos) if seconds >= 0 => Some(format!("{seconds}.{nanos:09}")),
        // Nanoseconds count forward, and a decimal fraction away from zero.
        Some(nanos) => {
            let (whole, fraction) = ((seconds + 1).unsigned_abs(), NANOS_PER_SECOND - nanos);
            Some(format!("-{whole}.{fraction:09}"))
        }
    };
    (plain.unwrap_or(0), record)
}

/// One PAX record; its length counts itself.
fn record(key: &str, value: &str) -> String {
    let rest = key.len() + value.len() + 3;
    let mut len = rest + 1;
    while len != rest + len.to_string().len() {
        len = rest + len.to_string().len();
    }
    format!("{len} {key}={value}\n")
}

/// A head without records.
struct Plain<'a> {
    path: &'a str,
    target: &'a str,
    flag: u8,
    mode: u32,
    size: u64,
    mtime: u64,
}

impl Plain<'_> {
    fn put(&self, out: &mut BytesMut) {
        let mut head = [0_u8; BLOCK];
        put(&mut head[0..100], self.path.as_bytes());
        put(&mut head[100..108], format!("{:07o}", self.mode).as_bytes());
        put(&mut head[108..116], b"0000000");
        put(&mut head[116..124], b"0000000");
        put(&mut head[124..136], format!("{:011o}", self.size.min(MAX_OCTAL)).as_bytes());
        put(&mut head[136..148], format!("{:011o}", self.mtime).as_bytes());
        put(&mut head[148..156], b"        ");
        head[156] = self.flag;
        put(&mut head[157..257], self.target.as_bytes());
        put(&mut head[257..265], b"ustar\x0000");
        let sum: u32 = head.iter().map(|byte| u32::from(*byte)).sum();
        put(&mut head[148..156], format!("{sum:06o}\0 ").as_bytes());
        out.put_slice(&head);
    }
}

fn put(field: &mut [u8], value: &[u8]) {
    let len = value.len().min(field.len());
    field[..len].copy_from_slice(&value[..len]);
}

/// The path of an entry called `name` in the folder at `folder`, which is below the archive's only root.
///
/// A name that goes up by `..` is followed as far as it stays below the root, as boxo does.
///
/// # Errors
/// [`NameError`] for a name that leaves the root, leads to it, or holds a NUL byte.
pub fn place(folder: &str, name: &str) -> Result<String, NameError> {
    let refuse = || NameError { name: name.to_owned() };
    let mut path: Vec<&str> = folder.split('/').collect();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." if path.len() > 1 => drop(path.pop()),
            ".." => return Err(refuse()),
            part => path.push(part),
        }
    }
    if path.len() < 2 || name.contains('\0') { Err(refuse()) } else { Ok(path.join("/")) }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    /// Reads an archive with a program of others.
    fn read(archive: &[u8]) -> Vec<(String, String, u64)> {
        let mut archive = ::tar::Archive::new(archive);
        let entries = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let mut content = String::new();
            if entry.header().entry_type().is_symlink() {
                content = format!("-> {}", String::from_utf8_lossy(&entry.link_name_bytes().unwrap()));
            } else {
                entry.read_to_string(&mut content).unwrap();
            }
            (String::from_utf8(entry.path_bytes().into_owned()).unwrap(), content, entry.size())
        });
        entries.collect()
    }

    #[test]
    fn archives_are_read_by_others_whatever_the_names() {
        let long = "x".repeat(99) + "/" + &"y".repeat(200);
        let cases = [
            ("d", Kind::Directory),
            ("d/a", Kind::File(5)),
            ("d/ü", Kind::File(5)),
            (&long, Kind::File(5)),
            ("l", Kind::Symlink("../a")),
            ("m", Kind::Symlink(&long)),
        ];
        let mut archive = Vec::new();
        for (path, kind) in cases {
            archive.extend_from_slice(&head(path, kind, Attributes::default()));
            if let Kind::File(size) = kind {
                archive.extend_from_slice(b"hello");
                archive.extend_from_slice(&padding(size));
            }
        }
        archive.extend_from_slice(&end());
        let expected = [
            ("d/", "", 0),
            ("d/a", "hello", 5),
            ("d/ü", "hello", 5),
            (&long, "hello", 5),
            ("l", "-> ../a", 0),
            ("m", &format!("-> {long}"), 0),
        ];
        let expected: Vec<_> =
            expected.map(|(path, content, size)| (path.to_owned(), content.to_owned(), size)).into();
        assert_eq!(read(&archive), expected);
    }

    #[test]
    fn sizes_above_eight_gibibytes_stand_in_a_record() {
        for (size, in_record) in [(MAX_OCTAL, false), (MAX_OCTAL + 1, true)] {
            let head = head("f", Kind::File(size), Attributes::default());
            assert_eq!(String::from_utf8_lossy(&head).contains(&format!(" size={size}\n")), in_record);
        }
    }

    #[test]
    fn modes_and_times_are_read_by_others() {
        for (seconds, nanos, expected) in [
            (0, None, None),
            (1_700_000_000, None, None),
            (1_700_000_000, Some(500_000_000), Some("1700000000.500000000")),
            (-7, None, Some("-7")),
            (-6, Some(750_000_000), Some("-5.250000000")),
            (-1, Some(750_000_000), Some("-0.250000000")),
            // Not a fraction of a second.
            (5, Some(u32::MAX), None),
        ] {
            let attributes = Attributes { mode: Some(0o4751), mtime: Some(Mtime { seconds, nanos }) };
            let mut archive = head("f", Kind::File(0), attributes).to_vec();
            archive.extend_from_slice(&end());
            let mut archive = ::tar::Archive::new(archive.as_slice());
            let mut entry = archive.entries().unwrap().next().unwrap().unwrap();
            assert_eq!(entry.header().mode().unwrap(), 0o4751);
            let record = entry
                .pax_extensions()
                .unwrap()
                .map(|mut records| records.next().unwrap().unwrap().value().unwrap().to_owned());
            assert_eq!(record.as_deref(), expected, "{seconds} {nanos:?}");
            if expected.is_none() {
                assert_eq!(entry.header().mtime().unwrap(), seconds.unsigned_abs());
            }
        }
    }

    #[test]
    fn a_record_counts_its_own_length() {
        // Source: the usual example of a record, and the border where the length gets a digit more.
        assert_eq!(record("ctime", "1084839148.1212"), "25 ctime=1084839148.1212\n");
        for len in 85..100 {
            let record = record("path", &"x".repeat(len));
            assert_eq!(record.split(' ').next().unwrap().parse::<usize>().unwrap(), record.len());
        }
    }

    #[test]
    fn names_that_leave_the_root_are_refused() {
        for name in ["", ".", "..", "../x", "/..", "a/../..", "a\0", "../r/x"] {
            assert!(place("r", name).is_err(), "{name:?}");
        }
        for (folder, name, path) in [
            ("r", "a", "r/a"),
            ("r", "..a", "r/..a"),
            ("r", "/etc/passwd", "r/etc/passwd"),
            ("r/a/b", "../c", "r/a/c"),
            ("r/a", "./b//c/../d", "r/a/b/d"),
        ] {
            assert_eq!(place(folder, name).as_deref(), Ok(path), "{name:?}");
        }
    }
}
