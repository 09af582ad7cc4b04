//! Arguments and options as they travel in a URL: `?arg=a&arg=b&recursive=true`.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::error::{Error, Result};

/// What stays as it is in a URL's query.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'/');

/// The parts of a query.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query {
    /// Values of `arg`, in order.
    pub args: Vec<String>,
    /// Everything else, in order.
    pub options: Vec<(String, String)>,
}

impl Query {
    /// Parses what stands behind the `?` of a URL.
    ///
    /// # Errors
    /// A part that is not UTF-8 after decoding.
    pub fn parse(text: &str) -> Result<Self> {
        let mut query = Self::default();
        for part in text.split('&').filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let (name, value) = (decode(name)?, decode(value)?);
            if name == "arg" {
                query.args.push(value);
            } else {
                query.options.push((name, value));
            }
        }
        Ok(query)
    }

    /// The value of an option, by its long or its short name.
    ///
    /// # Errors
    /// When it is there twice. Source: go-ipfs-cmds `http/parse.go`.
    pub fn option(&self, name: &str, short: &str) -> Result<Option<&str>> {
        let mut values =
            self.options.iter().filter(|(known, _)| known == name || (!short.is_empty() && known == short));
        let value = values.next().map(|(_, value)| value.as_str());
        if values.next().is_some() {
            return Err(Error::client(format!("expected key {name} to have only a single value")));
        }
        Ok(value)
    }
}

impl std::fmt::Display for Query {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let args = self.args.iter().map(|value| ("arg", value.as_str()));
        let options = self.options.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        for (index, (name, value)) in args.chain(options).enumerate() {
            let separator = if index == 0 { "" } else { "&" };
            write!(
                f,
                "{separator}{}={}",
                utf8_percent_encode(name, PLAIN),
                utf8_percent_encode(value, PLAIN)
            )?;
        }
        Ok(())
    }
}

/// Decodes one part of a query or form: `%41` is `A`, and `+` a space.
///
/// # Errors
/// Bytes that are not UTF-8.
pub(crate) fn decode(text: &str) -> Result<String> {
    let spaced = text.replace('+', " ");
    let decoded = percent_encoding::percent_decode_str(&spaced).decode_utf8();
    decoded.map(Into::into).map_err(|_| Error::client(format!("not UTF-8 after decoding: {text:?}")))
}

/// Reads a command's arguments from a query or writes them to one, so that each is named in one place.
#[derive(Debug)]
pub struct Binder {
    query: Query,
    direction: Direction,
    next_arg: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Read,
    Write,
}

impl Binder {
    /// Reads from `query`.
    pub fn read(query: Query) -> Self {
        Self { query, direction: Direction::Read, next_arg: 0 }
    }

    /// Writes to an empty query.
    pub fn write() -> Self {
        Self { query: Query::default(), direction: Direction::Write, next_arg: 0 }
    }

    /// The query that was read or written.
    pub fn into_query(self) -> Query {
        self.query
    }

    /// The next argument, which must be there.
    ///
    /// # Errors
    /// A missing argument or one of the wrong form.
    pub fn arg<T: Param>(&mut self, name: &str, value: &mut T) -> Result<()> {
        match self.direction {
            Direction::Write => self.query.args.extend(value.to_text()),
            Direction::Read => {
                let text = self.query.args.get(self.next_arg);
                let text = text.ok_or_else(|| Error::client(format!("argument {name:?} is required")))?;
                *value = T::from_text(text).map_err(|error| malformed(name, &error))?;
                self.next_arg += 1;
            }
        }
        Ok(())
    }

    /// The next argument, which may be missing.
    ///
    /// # Errors
    /// A value of the wrong form.
    pub fn optional_arg<T: Param>(&mut self, name: &str, value: &mut Option<T>) -> Result<()> {
        if self.direction == Direction::Read && self.next_arg >= self.query.args.len() {
            return Ok(());
        }
        match value {
            None if self.direction == Direction::Write => Ok(()),
            _ => {
                let mut given = value.take();
                let result = self.arg(name, &mut given);
                *value = given;
                result
            }
        }
    }

    /// All arguments that are left, `least` of them at least.
    ///
    /// # Errors
    /// Too few of them.
    pub fn args(&mut self, name: &str, least: usize, values: &mut Vec<String>) -> Result<()> {
        if self.direction == Direction::Write {
            self.query.args.extend(values.iter().cloned());
            return Ok(());
        }
        *values = self.query.args.get(self.next_arg..).unwrap_or_default().to_vec();
        self.next_arg = self.query.args.len();
        if values.len() < least {
            return Err(Error::client(format!("argument {name:?} is required")));
        }
        Ok(())
    }

    /// An option, by its long and its short name (empty for none). A missing one leaves `value` as it is.
    ///
    /// # Errors
    /// A value of the wrong form, or two of them.
    pub fn option<T: Param>(&mut self, name: &str, short: &str, value: &mut T) -> Result<()> {
        match self.direction {
            Direction::Write => {
                self.query.options.extend(value.to_text().map(|text| (name.to_owned(), text)));
            }
            Direction::Read => {
                if let Some(text) = self.query.option(name, short)? {
                    *value = T::from_text(text).map_err(|error| malformed(name, &error))?;
                }
            }
        }
        Ok(())
    }
}

fn malformed(name: &str, error: &str) -> Error {
    Error::client(format!("invalid value of {name:?}: {error}"))
}

/// A value that travels in a query.
pub trait Param: Sized {
    /// Reads it.
    ///
    /// # Errors
    /// Words that say what is wrong.
    fn from_text(text: &str) -> Result<Self, String>;

    /// Its text, `None` when it need not be sent.
    fn to_text(&self) -> Option<String>;
}

impl Param for bool {
    /// Source of the forms: Go's `strconv.ParseBool`; an option without a value is true.
    fn from_text(text: &str) -> Result<Self, String> {
        match text {
            "" | "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
            other => Err(format!("{other:?} is neither true nor false")),
        }
    }

    fn to_text(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl Param for String {
    fn from_text(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }

    fn to_text(&self) -> Option<String> {
        Some(self.clone())
    }
}

macro_rules! number_params {
    ($($type:ty),*) => {$(
        impl Param for $type {
            fn from_text(text: &str) -> Result<Self, String> {
                text.parse().map_err(|error| format!("{error}: {text:?}"))
            }

            fn to_text(&self) -> Option<String> {
                Some(self.to_string())
            }
        }
    )*};
}
number_params!(i64, u64, u32, usize);

impl<T: Param> Param for Option<T> {
    fn from_text(text: &str) -> Result<Self, String> {
        T::from_text(text).map(Some)
    }

    fn to_text(&self) -> Option<String> {
        self.as_ref().and_then(Param::to_text)
    }
}
