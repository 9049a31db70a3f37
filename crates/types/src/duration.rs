//! Durations as people write and read them (spec.md 11.8, 12.4).

use std::time::Duration;

use thiserror::Error;

/// Longest duration that is accepted: ten years, so that no sum of it and the present overflows.
const LONGEST: Duration = Duration::from_secs(10 * 366 * 86_400);

/// The unit of a bare number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DurationUnit {
    /// Milliseconds.
    Millis,
    /// Seconds.
    Seconds,
    /// Days: the default of `--expires-in` (spec.md 11.8).
    Days,
}

/// Why a text is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{text:?} is not a duration; write for example 500ms, 30s, 5m, 2h, 1h30m or 365d")]
pub struct DurationError {
    /// What was given.
    pub text: String,
}

/// Parses a number with a unit `ms`, `s`, `m`, `h` or `d`, decimals allowed, several in a row allowed (`1h30m`);
/// a bare number counts in `default_unit` (spec.md 11.8 and the accepted forms of real OpenClaw 2026.5.28).
///
/// # Errors
/// For anything else, for a negative or zero total where a unit is unknown, and for more than ten years.
pub fn parse_duration(text: &str, default_unit: DurationUnit) -> Result<Duration, DurationError> {
    let error = || DurationError {
        text: text.to_owned(),
    };
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(error());
    }
    let mut total = Duration::ZERO;
    let mut parts = 0_u32;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !(c.is_ascii_digit() || c == '.'))
            .unwrap_or(rest.len());
        let (number, tail) = rest.split_at(digits);
        let letters = tail
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let number: f64 = number.parse().map_err(|_| error())?;
        let seconds = match unit.to_ascii_lowercase().as_str() {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            "d" => 86_400.0,
            "" if parts == 0 && tail.is_empty() => unit_seconds(default_unit),
            _ => return Err(error()),
        };
        let part = Duration::try_from_secs_f64(number * seconds).map_err(|_| error())?;
        total = total
            .checked_add(part)
            .filter(|sum| *sum <= LONGEST)
            .ok_or_else(error)?;
        parts += 1;
        rest = tail;
    }
    Ok(total)
}

fn unit_seconds(unit: DurationUnit) -> f64 {
    match unit {
        DurationUnit::Millis => 0.001,
        DurationUnit::Seconds => 1.0,
        DurationUnit::Days => 86_400.0,
    }
}

/// The short form of a remaining time (spec.md 12.4): minutes below an hour, hours below two days, then days, each
/// rounded; `0m` when nothing remains.
#[must_use]
pub fn short_remaining(remaining: Duration) -> String {
    let minutes = (remaining.as_secs_f64() / 60.0).round();
    let hours = (remaining.as_secs_f64() / 3600.0).round();
    let days = (remaining.as_secs_f64() / 86_400.0).round();
    if remaining.is_zero() {
        "0m".to_owned()
    } else if minutes < 60.0 {
        format!("{}m", minutes.max(1.0))
    } else if hours < 48.0 {
        format!("{hours}h")
    } else {
        format!("{days}d")
    }
}

/// A wait, in full seconds while somebody may wait for it, so that nobody comes back too early; from two minutes on as
/// [`short_remaining`].
#[must_use]
pub fn short_wait(wait: Duration) -> String {
    let seconds = wait.as_millis().div_ceil(1000).max(1);
    if seconds < 120 {
        format!("{seconds} s")
    } else {
        short_remaining(wait)
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn waits_are_told_exactly_while_one_waits_for_them() {
        for (millis, want) in [
            (0, "1 s"),
            (400, "1 s"),
            (24_001, "25 s"),
            (25_000, "25 s"),
            (119_000, "119 s"),
            (119_001, "2m"),
            (150_000, "3m"),
            (3 * 3_600_000, "3h"),
        ] {
            assert_eq!(short_wait(Duration::from_millis(millis)), want, "{millis}");
        }
    }

    use super::*;

    #[test]
    fn parses_what_people_write() {
        let cases = [
            ("365", Some(365 * 86_400_000)),
            ("365d", Some(365 * 86_400_000)),
            ("12h", Some(43_200_000)),
            ("30m", Some(1_800_000)),
            ("1.5h", Some(5_400_000)),
            ("500ms", Some(500)),
            ("1h30m", Some(5_400_000)),
            (" 2S ", Some(2000)),
            ("0", Some(0)),
            ("1w", None),
            ("-1d", None),
            ("", None),
            ("h", None),
            ("1h30", None),
            ("1..5h", None),
            ("1e3s", None),
            ("99999999d", None),
        ];
        for (text, want) in cases {
            let got = parse_duration(text, DurationUnit::Days)
                .ok()
                .map(|d| d.as_millis());
            assert_eq!(got, want.map(|ms: u128| ms), "{text:?}");
        }
        assert_eq!(
            parse_duration("5", DurationUnit::Seconds),
            Ok(Duration::from_secs(5))
        );
        assert_eq!(
            parse_duration("5", DurationUnit::Millis),
            Ok(Duration::from_millis(5))
        );
    }

    #[test]
    fn short_forms() {
        let cases = [
            (0.0, "0m"),
            (1.0, "1m"),
            (59.0 * 60.0, "59m"),
            (90.0 * 60.0, "2h"),
            (47.6 * 3600.0, "2d"),
            (47.4 * 3600.0, "47h"),
            (240.0 * 3600.0, "10d"),
        ];
        for (seconds, want) in cases {
            assert_eq!(
                short_remaining(Duration::from_secs_f64(seconds)),
                want,
                "{seconds}"
            );
        }
    }
}
