//! Reads a list piece by piece, in memory that does not grow with its lines.

use super::header::Header;
use super::rule::{Rule, Target};
use super::{Denylist, Entry};

/// Largest header, in bytes. Source: the format's specification.
const MAX_HEADER_BYTES: usize = 1024 * 1024;
/// Longest line, in bytes, its end included. Source: the same.
const MAX_LINE_BYTES: usize = 2 * 1024 * 1024;
/// What ends a header.
const SEPARATOR: &[u8] = b"---";

/// Why a list cannot be used at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DenylistError {
    /// The header is no YAML of `key: value` lines.
    #[error("the header of the denylist cannot be read at {0:?}")]
    Header(String),
    /// The list is of another format.
    #[error("the denylist is of version {0:?}, and only 1 is known")]
    Version(String),
    /// A line of more than 2 MiB.
    #[error("a line of the denylist is too long, line={line} max={MAX_LINE_BYTES}")]
    LineTooLong {
        /// Its number, from 1.
        line: u64,
    },
}

/// Why one line is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// Neither `/ipfs/`, `/ipns/` nor `//`.
    #[error("not a rule")]
    NotARule,
    /// No CID behind `/ipfs/`.
    #[error("not a CID")]
    NotACid,
    /// Neither a multihash in base58 nor a SHA2-256 in hexadecimal behind `//`.
    #[error("not a double hash of a known function")]
    NotAHash,
    /// Bytes that are no text.
    #[error("not UTF-8")]
    NotText,
}

/// A list that is being read.
#[derive(Debug, Default)]
pub struct Reader {
    list: Denylist,
    header: Header,
    /// What may be a header, while that is not known.
    head: Option<Vec<u8>>,
    /// The start of a line whose end has not come.
    partial: Vec<u8>,
    line: u64,
    errors: Vec<(u64, LineError)>,
}

impl Reader {
    /// Before the first byte.
    pub fn new() -> Self {
        Self { head: Some(Vec::new()), ..Self::default() }
    }

    /// Takes the next bytes of the file.
    ///
    /// # Errors
    /// [`DenylistError`]: the list cannot be used.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), DenylistError> {
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (line, behind) = (&rest[..end], &rest[end + 1..]);
            rest = behind;
            if self.partial.is_empty() {
                self.on_line(line)?;
            } else {
                self.extend(line)?;
                let line = std::mem::take(&mut self.partial);
                self.on_line(&line)?;
            }
        }
        self.extend(rest)
    }

    /// The list, and the lines that it left out with their numbers, the first of them.
    ///
    /// # Errors
    /// As [`Self::push`].
    pub fn finish(mut self) -> Result<(Denylist, Vec<(u64, LineError)>), DenylistError> {
        let last = std::mem::take(&mut self.partial);
        self.on_line(&last)?;
        if let Some(head) = self.head.take() {
            self.read_rules(&head);
        }
        self.list.name = self.header.name.take();
        self.list.rules.shrink_to_fit();
        Ok((self.list, self.errors))
    }

    fn extend(&mut self, bytes: &[u8]) -> Result<(), DenylistError> {
        if self.partial.len() + bytes.len() >= MAX_LINE_BYTES {
            return Err(DenylistError::LineTooLong { line: self.line + 1 });
        }
        self.partial.extend_from_slice(bytes);
        Ok(())
    }

    fn on_line(&mut self, line: &[u8]) -> Result<(), DenylistError> {
        if line.len() >= MAX_LINE_BYTES {
            return Err(DenylistError::LineTooLong { line: self.line + 1 });
        }
        let Some(head) = &mut self.head else {
            self.on_rule(line);
            return Ok(());
        };
        if line.trim_ascii_end() == SEPARATOR {
            let text = String::from_utf8_lossy(head);
            self.header = Header::parse(&text)?;
            self.line = 1 + head.iter().filter(|byte| **byte == b'\n').count() as u64;
            self.head = None;
            return Ok(());
        }
        head.extend_from_slice(line);
        head.push(b'\n');
        if head.len() > MAX_HEADER_BYTES {
            // Rules from the first line on.
            let head = self.head.take().unwrap_or_default();
            self.read_rules(&head);
        }
        Ok(())
    }

    fn read_rules(&mut self, head: &[u8]) {
        head.strip_suffix(b"\n")
            .unwrap_or(head)
            .split(|byte| *byte == b'\n')
            .for_each(|line| self.on_rule(line));
    }

    fn on_rule(&mut self, line: &[u8]) {
        /// Enough to see what is wrong with a list.
        const MAX_ERRORS: usize = 100;
        self.line += 1;
        let line = line.trim_ascii();
        if line.is_empty() || line.starts_with(b"#") {
            return;
        }
        let rule = std::str::from_utf8(line).map_err(|_| LineError::NotText).and_then(Rule::parse);
        match rule {
            Ok(rule) => self.add(rule),
            Err(error) if self.errors.len() < MAX_ERRORS => self.errors.push((self.line, error)),
            Err(_) => {}
        }
    }

    fn add(&mut self, rule: Rule<'_>) {
        let order = u32::try_from(self.line).unwrap_or(u32::MAX);
        let entry = Entry::new(order, self.header.verdict(rule.is_exception, rule.hints));
        for target in rule.targets {
            match target {
                Target::Exact(key) => self.list.insert(key, entry),
                Target::Prefix(key, len) => {
                    self.list.prefix_lens.insert(len);
                    self.list.insert(key, entry);
                }
                Target::Double(function, key) => {
                    if !self.list.double_hashes.contains(&function) {
                        self.list.double_hashes.push(function);
                    }
                    self.list.insert(key, entry);
                }
            }
        }
    }
}
