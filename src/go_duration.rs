//! Durations as Go writes them (`90s`, `1h30m`, `500ms`, `1.5h`), as the Go operator's settings are.

use std::time::Duration;

/// Units in the order of Go's documentation, with their length in nanoseconds.
const UNITS: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000), // U+00B5, micro sign
    ("μs", 1_000), // U+03BC, Greek letter mu
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// None for what Go's `time.ParseDuration` refuses, and for negative durations, which no setting takes.
pub(crate) fn parse(text: &str) -> Option<Duration> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    if rest.is_empty() {
        return None;
    }
    let mut nanoseconds: u128 = 0;
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(number_end);
        let unit_end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, next) = after.split_at(unit_end);
        let (_, unit_length) = UNITS.iter().find(|(name, _)| *name == unit)?;
        nanoseconds = nanoseconds.checked_add(scaled(number, u128::from(*unit_length))?)?;
        rest = next;
    }
    // Go counts in signed 64-bit nanoseconds, about 292 years.
    let nanoseconds = u64::try_from(nanoseconds).ok().filter(|n| *n <= i64::MAX as u64)?;
    Some(Duration::from_nanos(nanoseconds))
}

/// `number` (such as `1.5`, `.5`, `2.`) times the unit, without the rounding of floating point.
fn scaled(number: &str, unit: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut total = whole.checked_mul(unit)?;
    let mut place = unit;
    for digit in fraction.bytes() {
        place /= 10;
        total = total.checked_add(place.checked_mul(u128::from(digit - b'0'))?)?;
    }
    Some(total)
}

/// Writes a duration as Go would, for messages: `1m30s`, `500ms`, `2h0m0s`.
pub(crate) fn show(duration: Duration) -> String {
    if duration < Duration::from_secs(1) {
        return match duration.as_millis() {
            0 if duration.is_zero() => "0s".to_owned(),
            0 => format!("{}ns", duration.as_nanos()),
            milliseconds => format!("{milliseconds}ms"),
        };
    }
    let (seconds, milliseconds) = (duration.as_secs(), duration.subsec_millis());
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let fraction = match milliseconds {
        0 => String::new(),
        _ => format!(".{milliseconds:03}").trim_end_matches('0').to_owned(),
    };
    match (hours, minutes) {
        (0, 0) => format!("{seconds}{fraction}s"),
        (0, _) => format!("{minutes}m{seconds}{fraction}s"),
        _ => format!("{hours}h{minutes}m{seconds}{fraction}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::{parse, show};
    use std::time::Duration;

    #[test]
    fn durations_read_as_in_go() {
        let cases = [
            ("90s", 90_000),
            ("1h30m", 5_400_000),
            ("500ms", 500),
            ("1.5h", 5_400_000),
            (".5s", 500),
            ("2.s", 2_000),
            ("+3m", 180_000),
            ("0", 0),
            ("1m0.25s", 60_250),
            ("0000000000000000000000001s", 1_000),
        ];
        for (text, milliseconds) in cases {
            assert_eq!(parse(text), Some(Duration::from_millis(milliseconds)), "{text}");
        }
        assert_eq!(parse("1us"), parse("1µs"));
        assert_eq!(parse("1μs"), Some(Duration::from_micros(1)));
    }

    #[test]
    fn what_go_refuses_is_refused() {
        let digits = "9".repeat(40) + "ns";
        for text in
            [&digits, "", "s", "5", "-5s", "1 s", "1d", "1..5s", ".s", "99999999999h", "1sm", "١s"]
        {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn shown_durations_read_back() {
        for text in ["1m30s", "500ms", "2h0m0s", "1.5s", "0s", "1s", "999ms", "7ns"] {
            assert_eq!(parse(text).map(show).as_deref(), Some(text));
        }
    }
}
