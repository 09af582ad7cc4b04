//! The sizes that an operator has set limits to. Pure.

use cairn_proto::content::{DagScope, NodeKind};

use crate::error::{Failure, Refusal};
use crate::settings::Settings;

/// Whether a file of that length may be served, or a range of it.
pub(crate) fn check_file(settings: &Settings, len_bytes: u64, is_range: bool) -> Result<(), Refusal> {
    let max = [settings.max_file_bytes, settings.max_content_bytes].into_iter().flatten().min();
    check(max, len_bytes, Failure::TooLarge, "file")?;
    let max = settings.max_range_file_bytes.filter(|_| is_range);
    check(max, len_bytes, Failure::NoRanges, "file of which ranges are served")
}

/// Whether `scope` of some content may be served as an archive, as far as its root tells.
pub(crate) fn check_content(settings: &Settings, kind: &NodeKind, scope: DagScope) -> Result<(), Refusal> {
    let len_bytes = match (scope, kind) {
        (DagScope::All | DagScope::Entity { from: 0, to: None }, NodeKind::File { len_bytes }) => *len_bytes,
        (DagScope::All, NodeKind::Directory { cumulative_bytes }) => *cumulative_bytes,
        // The rest tells its size as it comes, and [`max_archive_bytes`] holds it.
        _ => return Ok(()),
    };
    check(settings.max_content_bytes, len_bytes, Failure::TooLarge, "content")
}

/// Bytes at which an archive is cut, whatever its root claimed: the limit, and room for the framing of what keeps it.
pub(crate) fn max_archive_bytes(settings: &Settings) -> Option<u64> {
    const MIN_FRAMING_BYTES: u64 = 64 * 1024;
    settings.max_content_bytes.map(|max| max.saturating_add(max / 8).saturating_add(MIN_FRAMING_BYTES))
}

fn check(max: Option<u64>, len_bytes: u64, failure: Failure, what: &str) -> Result<(), Refusal> {
    match max {
        Some(max) if len_bytes > max => {
            Err(Refusal::new(failure, format!("largest {what} is exceeded, len_bytes={len_bytes} max={max}")))
        }
        _ => Ok(()),
    }
}
