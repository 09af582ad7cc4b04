//! The sizes that an operator has set limits to. Pure.

use cairn_proto::content::NodeKind;

use crate::error::{Failure, Refusal};
use crate::format::Format;
use crate::settings::Settings;

/// Whether a file of that length may be served, or a range of it.
pub(crate) fn check_file(settings: &Settings, len_bytes: u64, is_range: bool) -> Result<(), Refusal> {
    let max = [settings.max_file_bytes, settings.max_content_bytes].into_iter().flatten().min();
    check(max, len_bytes, Failure::TooLarge, "file")?;
    let max = settings.max_range_file_bytes.filter(|_| is_range);
    check(max, len_bytes, Failure::NoRanges, "file of which ranges are served")
}

/// Whether all of some content may be served in `format`.
pub(crate) fn check_content(
    settings: &Settings,
    kind: &NodeKind,
    format: Option<Format>,
) -> Result<(), Refusal> {
    let len_bytes = match (format, kind) {
        (Some(Format::Car | Format::Tar), NodeKind::File { len_bytes }) => *len_bytes,
        (Some(Format::Car | Format::Tar), NodeKind::Directory { cumulative_bytes }) => *cumulative_bytes,
        // Files are checked where they are served, one block and one listing are always small.
        _ => return Ok(()),
    };
    check(settings.max_content_bytes, len_bytes, Failure::TooLarge, "content")
}

fn check(max: Option<u64>, len_bytes: u64, failure: Failure, what: &str) -> Result<(), Refusal> {
    match max {
        Some(max) if len_bytes > max => {
            Err(Refusal::new(failure, format!("largest {what} is exceeded, len_bytes={len_bytes} max={max}")))
        }
        _ => Ok(()),
    }
}
