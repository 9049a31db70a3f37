//! Times in words, and absolute where asked for.

use std::time::Duration;

use jiff::Timestamp;
use tokensink_types::UnixMillis;

use super::{Look, Zone};

/// `in 5 hours`, `2 days ago`, `now`: rounded like the short forms of spec.md 12.4, so that both say the same.
pub(crate) fn relative(at: UnixMillis, now: UnixMillis) -> String {
    if at > now {
        format!("in {}", length(now.until(at)))
    } else {
        let since = at.until(now);
        if since < Duration::from_secs(1) {
            "now".to_owned()
        } else {
            format!("{} ago", length(since))
        }
    }
}

/// A length of time in its largest sensible unit: seconds below a minute, minutes below an hour, hours below two
/// days, days below 120, then months of 30 days and years of 365.
pub(crate) fn length(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    let rounded = |unit: f64| (seconds / unit).round();
    let (count, unit) = if rounded(1.0) < 60.0 {
        (rounded(1.0).max(1.0), "second")
    } else if rounded(60.0) < 60.0 {
        (rounded(60.0), "minute")
    } else if rounded(3600.0) < 48.0 {
        (rounded(3600.0), "hour")
    } else if rounded(86_400.0) < 120.0 {
        (rounded(86_400.0), "day")
    } else if rounded(2_592_000.0) < 24.0 {
        (rounded(2_592_000.0), "month")
    } else {
        (rounded(31_536_000.0), "year")
    };
    let plural = if count > 1.0 { "s" } else { "" };
    format!("{count} {unit}{plural}")
}

/// Local date and time to the minute, `2026-11-21 14:05`; the number itself where it is no date.
pub(crate) fn local(at: UnixMillis, zone: &Zone) -> String {
    match Timestamp::from_millisecond(at.0) {
        Ok(timestamp) => timestamp
            .to_zoned(zone.get())
            .strftime("%Y-%m-%d %H:%M")
            .to_string(),
        Err(_) => at.to_string(),
    }
}

/// Local date and time to the second, `2026-11-21 14:05:09`.
pub(crate) fn exact(at: UnixMillis, zone: &Zone) -> String {
    match Timestamp::from_millisecond(at.0) {
        Ok(timestamp) => timestamp
            .to_zoned(zone.get())
            .strftime("%Y-%m-%d %H:%M:%S")
            .to_string(),
        Err(_) => at.to_string(),
    }
}

/// ISO 8601 in UTC with milliseconds, as other tools print it in JSON: `2026-11-21T05:00:00.000Z`.
pub(crate) fn iso(at: UnixMillis) -> String {
    match Timestamp::from_millisecond(at.0) {
        Ok(timestamp) => timestamp.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string(),
        Err(_) => at.to_string(),
    }
}

/// In words, with the absolute time behind it where `absolute` is wanted.
pub(crate) fn when(at: UnixMillis, now: UnixMillis, look: &Look, absolute: bool) -> String {
    let words = relative(at, now);
    if absolute {
        format!("{words} ({})", local(at, &look.zone))
    } else {
        words
    }
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;

    #[test]
    fn words_for_times() {
        let minute = 60_000;
        let hour = 60 * minute;
        let day = 24 * hour;
        let cases = [
            (0, "now"),
            (-400, "now"),
            (400, "in 1 second"),
            (59_000, "in 59 seconds"),
            (59_700, "in 1 minute"),
            (90 * minute, "in 2 hours"),
            (5 * hour, "in 5 hours"),
            (47 * hour, "in 47 hours"),
            (48 * hour, "in 2 days"),
            (-2 * day, "2 days ago"),
            (-hour, "1 hour ago"),
            (119 * day, "in 119 days"),
            (300 * day, "in 10 months"),
            (3650 * day, "in 10 years"),
        ];
        for (offset, want) in cases {
            let now = UnixMillis(1_780_000_000_000);
            assert_eq!(relative(UnixMillis(now.0 + offset), now), want, "{offset}");
        }
    }

    #[test]
    fn absolute_times() {
        let at = UnixMillis(1_795_237_500_123);
        assert_eq!(iso(at), "2026-11-21T05:05:00.123Z");
        assert_eq!(local(at, &Zone::Fixed(TimeZone::UTC)), "2026-11-21 05:05");
        assert_eq!(exact(at, &Zone::Fixed(TimeZone::UTC)), "2026-11-21 05:05:00");
        let east = TimeZone::fixed(jiff::tz::offset(2));
        assert_eq!(local(at, &Zone::Fixed(east)), "2026-11-21 07:05");
        assert_eq!(iso(UnixMillis(i64::MAX)), "9223372036854775807");
    }
}
