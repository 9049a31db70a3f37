//! `Retry-After` (RFC 9110 section 10.2.3), in both of its forms.

use std::time::{Duration, UNIX_EPOCH};

use http::header::{HeaderMap, RETRY_AFTER};
use tokensink_types::UnixMillis;

/// Shortest wait, whatever the server says; some say 0 while they go on refusing.
const DELAY_MIN: Duration = Duration::from_secs(1);

/// Longest wait, whatever the server says; a token may die meanwhile.
const DELAY_MAX: Duration = Duration::from_secs(3600);

/// When a server wants to be asked again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryAfter {
    /// After this time.
    Delay(Duration),
    /// At this instant.
    At(UnixMillis),
}

impl RetryAfter {
    /// Reads the header; `None` when it is missing or neither whole seconds nor a date.
    #[must_use]
    pub fn parse(headers: &HeaderMap) -> Option<Self> {
        let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
        if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
            // More digits than fit mean "very long".
            return Some(Self::Delay(Duration::from_secs(text.parse().unwrap_or(u64::MAX))));
        }
        let since_epoch = httpdate::parse_http_date(text)
            .ok()?
            .duration_since(UNIX_EPOCH)
            .ok()?;
        Some(Self::At(UnixMillis(0).plus(since_epoch)))
    }

    /// How long to wait from `now`: at least 1 s, at most 1 h.
    #[must_use]
    pub fn delay(self, now: UnixMillis) -> Duration {
        let delay = match self {
            Self::Delay(delay) => delay,
            Self::At(at) => now.until(at),
        };
        delay.clamp(DELAY_MIN, DELAY_MAX)
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Option<RetryAfter> {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, HeaderValue::from_str(text).ok()?);
        RetryAfter::parse(&headers)
    }

    #[test]
    fn both_forms_within_bounds() {
        // Sun, 06 Nov 1994 08:49:37 GMT, the date of RFC 9110 section 5.6.7.
        let date = UnixMillis(784_111_777_000);
        let earlier = date.minus(Duration::from_secs(90));
        let cases = [
            ("0", date, Some(1)),
            ("30", date, Some(30)),
            (" 30 ", date, Some(30)),
            ("86400", date, Some(3600)),
            ("99999999999999999999999", date, Some(3600)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", earlier, Some(90)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", earlier, Some(90)),
            ("Sun Nov  6 08:49:37 1994", earlier, Some(90)),
            (
                "Sun, 06 Nov 1994 08:49:37 GMT",
                date.plus(Duration::from_secs(5)),
                Some(1),
            ),
            ("-5", date, None),
            ("1.5", date, None),
            ("soon", date, None),
            ("", date, None),
        ];
        for (text, now, want) in cases {
            let got = parse(text).map(|retry| retry.delay(now).as_secs());
            assert_eq!(got, want, "{text:?}");
        }
        assert_eq!(RetryAfter::parse(&HeaderMap::new()), None);
    }

    proptest! {
        #[test]
        fn any_value_is_read(text in "[ -~]{0,40}", day in 0_u32..40, year in 0_u32..99_999) {
            let _ = parse(&text);
            let _ = parse(&format!("Sun, {day:02} Nov {year:04} 08:49:37 GMT"));
        }
    }
}
