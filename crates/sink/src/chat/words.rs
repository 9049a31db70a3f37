//! What an error answer says, in one line without secrets.

use serde_json::Value;
use tokensink_types::Secret;

/// Longest text that is passed on, in characters.
const LENGTH_MAX: usize = 300;

/// `429: You have reached your limit`.
pub(super) fn of_refusal(status: u16, body: &[u8], secret: Option<&Secret>) -> String {
    let said = match serde_json::from_slice::<Value>(body) {
        Ok(value) => message(&value).unwrap_or_default().to_owned(),
        // A page of a proxy is no sentence.
        Err(_) if body.trim_ascii_start().starts_with(b"<") => String::new(),
        Err(_) => String::from_utf8_lossy(body).into_owned(),
    };
    let said = match secret.map(Secret::expose).filter(|secret| !secret.is_empty()) {
        Some(secret) => said.replace(secret, "(the credential)"),
        None => said,
    };
    let words: Vec<&str> = said
        .split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|word| !word.is_empty())
        .collect();
    let line = words.join(" ");
    let mut short: String = line.chars().take(LENGTH_MAX).collect();
    if short.len() < line.len() {
        short.push('…');
    }
    if short.is_empty() {
        format!("status {status}")
    } else {
        format!("{status}: {short}")
    }
}

/// The sentence in an error body of any of the APIs.
fn message(value: &Value) -> Option<&str> {
    let value = if value.is_array() { &value[0] } else { value };
    let error = &value["error"];
    [
        &error["message"],
        &value["message"],
        &value["detail"],
        error,
        &value["error_description"],
    ]
    .into_iter()
    .find_map(Value::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_without_the_secret() {
        let long = format!(r#"{{"message":"{}"}}"#, "x".repeat(400));
        let cases: [(&str, &str); 8] = [
            (
                r#"{"type":"error","error":{"type":"rate_limit_error","message":"Slow\n down"}}"#,
                "429: Slow down",
            ),
            (r#"{"error":"no"}"#, "429: no"),
            (r#"{"detail":"Plan limit"}"#, "429: Plan limit"),
            (r#"[{"error":{"message":"quota"}}]"#, "429: quota"),
            ("<html>oops</html>", "status 429"),
            ("", "status 429"),
            ("plain\u{1b}[31m words", "429: plain [31m words"),
            (
                r#"{"error":{"message":"key sk-canary is wrong"}}"#,
                "429: key (the credential) is wrong",
            ),
        ];
        let secret = Secret::new("sk-canary");
        for (body, want) in cases {
            assert_eq!(of_refusal(429, body.as_bytes(), Some(&secret)), want, "{body}");
        }
        assert!(of_refusal(429, long.as_bytes(), None).ends_with("x…"));
    }
}
