//! What reaches a terminal: escaped names, lines on stdout, progress on stderr.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Text without anything that a terminal would act on: control characters and those that reorder text are escaped.
///
/// Source: CVE-2020-26283, and Unicode's bidirectional controls (UAX #9).
pub(crate) fn escape(text: &str) -> Cow<'_, str> {
    if !text.contains(is_active) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '\n' => escaped.push_str("\\n"),
            '\r' => escaped.push_str("\\r"),
            '\t' => escaped.push_str("\\t"),
            c if is_active(c) => {
                let code = u32::from(c);
                let written = if code < 0x100 {
                    write!(escaped, "\\x{code:02x}")
                } else {
                    write!(escaped, "\\u{{{code:x}}}")
                };
                written.expect("writing to memory cannot fail");
            }
            c => escaped.push(c),
        }
    }
    Cow::Owned(escaped)
}

fn is_active(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{061c}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// Whether an error is only that nobody reads our output any more.
pub(crate) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    })
}

/// Standard output, flushed when its owner says so.
pub(crate) fn stdout() -> io::BufWriter<io::StdoutLock<'static>> {
    io::BufWriter::with_capacity(64 * 1024, io::stdout().lock())
}

/// Writes one line and makes it visible.
pub(crate) fn print_line(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(line.as_bytes())?;
    out.write_all(b"\n")?;
    out.flush()
}

/// A bar of bytes on stderr, drawn on a terminal or when `wanted` says so.
pub(crate) fn progress(wanted: Option<bool>, total_bytes: Option<u64>) -> ProgressBar {
    let shown = wanted.unwrap_or_else(|| io::stderr().is_terminal());
    let target = if shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(total_bytes, target);
    bar.set_style(style(total_bytes.is_some()));
    bar
}

/// A count of things on stderr, drawn on a terminal.
pub(crate) fn counter(what: &str) -> ProgressBar {
    let bar = progress(None, None);
    let style = ProgressStyle::with_template(&format!("{{pos}} {what} {{per_sec}}"));
    bar.set_style(style.expect("the template is valid"));
    bar
}

/// Gives a bar its end.
pub(crate) fn set_total(bar: &ProgressBar, total_bytes: u64) {
    bar.set_length(total_bytes);
    bar.set_style(style(true));
}

fn style(has_total: bool) -> ProgressStyle {
    let template = if has_total {
        "{decimal_bytes} / {decimal_total_bytes} [{bar:30}] {percent}% {decimal_bytes_per_sec} {eta} {msg}"
    } else {
        "{decimal_bytes} {decimal_bytes_per_sec} {msg}"
    };
    ProgressStyle::with_template(template).expect("both templates are valid").progress_chars("=> ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_acts_on_gets_through() {
        for (name, shown) in [
            ("plain name ü 字", "plain name ü 字"),
            ("\u{1b}[31mred", "\\x1b[31mred"),
            ("a\rb\nc\td", "a\\rb\\nc\\td"),
            ("\u{9b}2J", "\\x9b2J"),
            ("\u{7f}\u{0}", "\\x7f\\x00"),
            ("gpj.\u{202e}exe", "gpj.\\u{202e}exe"),
            ("\u{2066}x\u{2069}\u{200f}", "\\u{2066}x\\u{2069}\\u{200f}"),
        ] {
            assert_eq!(escape(name), shown);
        }
    }
}
