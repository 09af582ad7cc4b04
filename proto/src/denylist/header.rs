//! The YAML document that may stand before the rules: as much of YAML as headers are made of.

use super::reader::DenylistError;
use super::{Reason, Verdict};

/// The format that is understood.
const VERSION: &str = "1";

/// What matters of a header.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) name: Option<String>,
    pub(super) reason: Reason,
}

impl Header {
    /// Reads `key: value` lines and the map `hints`; longer values of other keys are passed over.
    pub(super) fn parse(text: &str) -> Result<Self, DenylistError> {
        let mut header = Self::default();
        let mut in_hints = false;
        for line in text.lines() {
            let indented = line.starts_with([' ', '\t']);
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let Some((key, value)) = line.split_once(':') else {
                if indented {
                    continue; // a text that goes on
                }
                return Err(DenylistError::Header(line.chars().take(80).collect()));
            };
            let value = unquote(value.trim());
            match (indented, key) {
                (true, key) if in_hints => header.reason = hint(key, value).unwrap_or(header.reason),
                (true, _) => {}
                (false, "version") if value != VERSION => {
                    return Err(DenylistError::Version(value.chars().take(80).collect()));
                }
                (false, "name") => header.name = Some(value.to_owned()),
                _ => {}
            }
            if !indented {
                in_hints = key == "hints";
            }
        }
        Ok(header)
    }

    /// What a rule of this list says, given the words behind it.
    pub(super) fn verdict<'a>(&self, is_exception: bool, hints: impl Iterator<Item = &'a str>) -> Verdict {
        if is_exception {
            return Verdict::Allow;
        }
        // The specification writes `key:value`, its implementation in Go reads `key=value`.
        let own = hints
            .filter_map(|word| word.split_once([':', '=']))
            .filter_map(|(key, value)| hint(key, value))
            .last();
        Verdict::Deny(own.unwrap_or(self.reason))
    }
}

fn hint(key: &str, value: &str) -> Option<Reason> {
    match (key, value) {
        ("gateway_status", "451") => Some(Reason::Legal),
        ("gateway_status", _) => Some(Reason::Unspecified),
        _ => None,
    }
}

fn unquote(text: &str) -> &str {
    let within = |quote: char| text.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
    within('"').or_else(|| within('\'')).unwrap_or(text)
}
