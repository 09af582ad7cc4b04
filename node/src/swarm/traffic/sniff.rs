//! Tells which protocol a stream is for, from what the side that accepts it says.
//!
//! Source: <https://github.com/multiformats/multistream-select>: messages with a length in front and a line end behind. The
//! accepting side repeats the name that it takes, after a greeting and an `na` for each that it does not take.

const GREETING: &[u8] = b"/multistream/1.0.0";
const REFUSAL: &[u8] = b"na";
/// Longest message that is looked at, in bytes: so that the length is one byte.
const MAX_MESSAGE_BYTES: usize = 127;
/// Messages before the name is given up.
const MAX_MESSAGES: usize = 16;

/// Reads along.
#[derive(Debug)]
pub(super) struct Sniff {
    message: Vec<u8>,
    /// Its length, once it is known.
    len_bytes: Option<usize>,
    left: usize,
}

/// What is known so far.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing.
    NotYet,
    /// The name of the protocol.
    Protocol(String),
    /// It will not be known.
    Never,
}

impl Default for Sniff {
    fn default() -> Self {
        Self { message: Vec::new(), len_bytes: None, left: MAX_MESSAGES }
    }
}

impl Sniff {
    /// Looks at the next bytes.
    pub(super) fn look(&mut self, bytes: &[u8]) -> Found {
        for byte in bytes {
            let Some(len_bytes) = self.len_bytes else {
                let len_bytes = usize::from(*byte);
                if len_bytes == 0 || len_bytes > MAX_MESSAGE_BYTES {
                    return Found::Never;
                }
                self.len_bytes = Some(len_bytes);
                continue;
            };
            self.message.push(*byte);
            if self.message.len() == len_bytes {
                match self.on_message() {
                    Found::NotYet => {}
                    found => return found,
                }
            }
        }
        Found::NotYet
    }

    fn on_message(&mut self) -> Found {
        let message = std::mem::take(&mut self.message);
        self.len_bytes = None;
        self.left -= 1;
        let Some(name) = message.strip_suffix(b"\n") else { return Found::Never };
        if name == GREETING || name == REFUSAL {
            return if self.left == 0 { Found::Never } else { Found::NotYet };
        }
        match std::str::from_utf8(name) {
            Ok(name) if name.starts_with('/') => Found::Protocol(name.to_owned()),
            _ => Found::Never,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the specification has it.
    fn said(lines: &[&str]) -> Vec<u8> {
        lines
            .iter()
            .flat_map(|line| {
                [vec![u8::try_from(line.len() + 1).unwrap()], format!("{line}\n").into_bytes()].concat()
            })
            .collect()
    }

    #[test]
    fn the_name_behind_greeting_and_refusals_is_the_protocol_however_it_arrives() {
        let mut bytes = said(&["/multistream/1.0.0", "na", "na", "/ipfs/ping/1.0.0"]);
        bytes.extend([7; 32]);
        for len_bytes in 1..=bytes.len() {
            let mut sniff = Sniff::default();
            let mut looks = bytes.chunks(len_bytes).map(|chunk| sniff.look(chunk));
            let found = looks.find(|found| *found != Found::NotYet);
            assert_eq!(found, Some(Found::Protocol("/ipfs/ping/1.0.0".to_owned())), "{len_bytes}");
        }
    }

    #[test]
    fn what_is_no_negotiation_is_given_up() {
        for bytes in [&[0][..], &[200, 1], &[2, b'x', b'y'], &[2, b'x', b'\n'], &said(&["na"; 20])] {
            assert_eq!(Sniff::default().look(bytes), Found::Never, "{bytes:?}");
        }
        assert_eq!(Sniff::default().look(&[]), Found::NotYet);
    }
}
