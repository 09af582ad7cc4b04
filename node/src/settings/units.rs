//! Durations and sizes as people write them in a configuration or on a command line.

use std::time::Duration;

/// Parses a duration in Go's form: `300ms`, `1.5s`, `1h30m`; a bare `0` is allowed.
///
/// Source: <https://pkg.go.dev/time#ParseDuration> (negative ones are refused here).
///
/// # Errors
/// Words that say what is wrong with the text.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let malformed = || format!("not a duration: {text:?}; write it as 30s, 1.5h or 1h30m");
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let (number, tail) = split_number(rest);
        let unit_len = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_len);
        let seconds_per_unit = match unit {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(malformed()),
        };
        let count: f64 = number.parse().map_err(|_| malformed())?;
        let step = Duration::try_from_secs_f64(count * seconds_per_unit).map_err(|_| malformed())?;
        total = total.checked_add(step).ok_or_else(malformed)?;
        rest = tail;
    }
    if text.is_empty() { Err(malformed()) } else { Ok(total) }
}

/// Parses a size in bytes: `512`, `10GB` (decimal), `10 GiB` (binary), in any case of letters.
///
/// # Errors
/// Words that say what is wrong with the text.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let malformed = || format!("not a size: {text:?}; write it as 500MB, 10GiB or a number of bytes");
    let (number, unit) = split_number(text.trim());
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" => 1000,
        "m" | "mb" => 1000_u64.pow(2),
        "g" | "gb" => 1000_u64.pow(3),
        "t" | "tb" => 1000_u64.pow(4),
        "p" | "pb" => 1000_u64.pow(5),
        "ki" | "kib" => 1 << 10,
        "mi" | "mib" => 1 << 20,
        "gi" | "gib" => 1 << 30,
        "ti" | "tib" => 1 << 40,
        "pi" | "pib" => 1 << 50,
        _ => return Err(malformed()),
    };
    if let Ok(count) = number.parse::<u64>() {
        return count.checked_mul(factor).ok_or_else(malformed);
    }
    let bytes = number.parse::<f64>().map_err(|_| malformed())? * factor as f64;
    // 2^63 is far above any disk and exact in a double.
    if !(0.0..9_223_372_036_854_775_808.0).contains(&bytes) {
        return Err(malformed());
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the range was checked above"
    )]
    Ok(bytes as u64)
}

/// A size for people, in decimal units: `1.2 GB`.
pub fn format_size(len_bytes: u64) -> String {
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    if len_bytes < 1000 {
        return format!("{len_bytes} B");
    }
    let mut value = len_bytes as f64 / 1000.0;
    let mut unit = 0;
    while value >= 999.95 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let decimals = usize::from(value < 9.95);
    format!("{value:.decimals$} {}", UNITS[unit])
}

fn split_number(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    // Source of the forms: the examples of Go's time.ParseDuration.
    #[test]
    fn durations_read_as_go_reads_them() {
        for (text, expected) in [
            ("300ms", Duration::from_millis(300)),
            ("1.5h", Duration::from_secs(5400)),
            ("2h45m", Duration::from_secs(9900)),
            ("1m0.5s", Duration::from_millis(60_500)),
            ("0", Duration::ZERO),
            ("1µs", Duration::from_micros(1)),
        ] {
            assert_eq!(parse_duration(text), Ok(expected), "{text}");
        }
        for text in ["", "5", "s", "1d", "-1s", "1s2", "1e400h", "..s"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    // Source of the forms: go-humanize's ParseBytes, which Kubo reads sizes with.
    #[test]
    fn sizes_read_in_decimal_and_binary_units() {
        for (text, expected) in [
            ("42", 42),
            ("42MB", 42_000_000),
            ("42 mib", 44_040_192),
            ("42.5MB", 42_500_000),
            ("10GB", 10_000_000_000),
            ("1k", 1000),
        ] {
            assert_eq!(parse_size(text), Ok(expected), "{text}");
        }
        for text in ["", "GB", "-1", "1.2.3MB", "84 jb", "1e9", "99999999PB", "99999999.5PB"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_print_with_one_decimal_below_ten() {
        // Source: go-humanize's Bytes: 82854982 is "83 MB", 1234 is "1.2 kB".
        assert_eq!(format_size(999), "999 B");
        assert_eq!(format_size(1234), "1.2 kB");
        assert_eq!(format_size(82_854_982), "83 MB");
        assert_eq!(format_size(999_999), "1.0 MB");
    }
}
