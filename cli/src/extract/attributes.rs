//! Mode and time of what is unpacked.
//!
//! What an archive says as usual is left to the file mask and the clock. Permissions are taken over; to run as someone else is
//! not, since whoever made the content would choose it.

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_OMIT, utimensat};

const NANOS_PER_SECOND: i64 = 1_000_000_000;

/// What is to be set on one file, folder or link.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attributes {
    mode: Option<u32>,
    mtime: Option<Timespec>,
}

impl Attributes {
    /// Those of an entry, where they are not `usual_mode` and the start of 1970.
    pub(super) fn of(entry: &mut tar::Entry<'_, impl Read>, usual_mode: u32) -> Result<Self> {
        let damaged = "the archive is damaged";
        let mut mtime = Timespec { tv_sec: i64::try_from(entry.header().mtime()?)?, tv_nsec: 0 };
        for record in entry.pax_extensions().context(damaged)?.into_iter().flatten() {
            let record = record.context(damaged)?;
            if record.key_bytes() == b"mtime" {
                mtime = record.value().ok().and_then(parse_time).context(damaged)?;
            }
        }
        let mode = entry.header().mode().context(damaged)? & 0o777;
        Ok(Self {
            mode: Some(mode).filter(|mode| *mode != usual_mode),
            mtime: Some(mtime).filter(|mtime| (mtime.tv_sec, mtime.tv_nsec) != (0, 0)),
        })
    }

    /// Without the mode, which a link has not.
    pub(super) fn of_link(self) -> Self {
        Self { mode: None, ..self }
    }

    /// Sets them. A link is not followed.
    pub(super) fn apply(self, path: &Path) -> Result<()> {
        let failed = || format!("cannot set mode and time of {}", path.display());
        if let Some(mode) = self.mode {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).with_context(failed)?;
        }
        if let Some(mtime) = self.mtime {
            let last_access = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
            let times = Timestamps { last_access, last_modification: mtime };
            utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).with_context(failed)?;
        }
        Ok(())
    }
}

/// A decimal number of seconds, whose fraction is cut to nanoseconds.
fn parse_time(text: &str) -> Option<Timespec> {
    let (is_negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let is_number = |text: &str| text.bytes().all(|digit| digit.is_ascii_digit());
    if whole.is_empty() || !is_number(whole) || !is_number(fraction) {
        return None;
    }
    let seconds: i64 = whole.parse().ok()?;
    let nanos: i64 = format!("{fraction:0<9.9}").parse().ok()?;
    Some(match (is_negative, nanos) {
        (false, _) => Timespec { tv_sec: seconds, tv_nsec: nanos },
        (true, 0) => Timespec { tv_sec: -seconds, tv_nsec: 0 },
        // Nanoseconds count forward.
        (true, _) => Timespec { tv_sec: -seconds - 1, tv_nsec: NANOS_PER_SECOND - nanos },
    })
}

/// What is to be set on folders once all is in place: a folder that may not be written could not be filled or moved, and each
/// new entry changes its time.
#[derive(Debug, Default)]
pub(crate) struct FolderAttributes(Vec<(PathBuf, Attributes)>);

impl FolderAttributes {
    /// Notes those of the folder at `path` below the top, which is empty for the top.
    pub(super) fn note(&mut self, path: PathBuf, attributes: Attributes) {
        self.0.push((path, attributes));
    }

    /// Sets them all, with `top` as the name of the top.
    pub(crate) fn apply(self, top: &Path) -> Result<()> {
        for (path, attributes) in self.0.into_iter().rev() {
            attributes.apply(&top.join(path))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_decimal_numbers_on_both_sides_of_1970() {
        for (text, expected) in [
            ("0", Some((0, 0))),
            ("1700000000.5", Some((1_700_000_000, 500_000_000))),
            ("-7", Some((-7, 0))),
            ("-5.25", Some((-6, 750_000_000))),
            ("-0.000000001", Some((-1, 999_999_999))),
            ("1.0000000019", Some((1, 1))),
            ("", None),
            ("-", None),
            (".5", None),
            ("1e3", None),
            ("99999999999999999999", None),
        ] {
            let read = parse_time(text).map(|time| (time.tv_sec, time.tv_nsec));
            assert_eq!(read, expected, "{text:?}");
        }
    }
}
