//! Rules for single values: ids, URLs, header names and templates, variable names, JSON pointers.

use std::net::IpAddr;

use http::HeaderName;
use tokensink_types::ProviderId;
use url::{Host, Url};

/// What is wrong with one value. The message follows the field's path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// What is wrong.
    pub(crate) message: String,
    /// What to write instead.
    pub(crate) fix: String,
}

fn fault(message: String, fix: &str) -> Fault {
    Fault {
        message,
        fix: fix.to_owned(),
    }
}

/// An id of a provider or a method.
pub(crate) fn check_id(text: &str) -> Result<(), Fault> {
    ProviderId::parse(text)
        .map(drop)
        .map_err(|error| fault(error.to_string(), "write lower-case letters, digits and - _ ."))
}

/// A long option of a command line: `--` and a word of lower-case letters, digits and dashes.
pub(crate) fn check_option_name(text: &str) -> Result<(), Fault> {
    let word = text.strip_prefix("--").unwrap_or_default();
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if word.starts_with(|c: char| c.is_ascii_lowercase()) && !word.ends_with('-') && word.chars().all(plain) {
        return Ok(());
    }
    Err(fault(
        format!("{text:?} is no name of an option"),
        "write -- and lower-case letters, digits and dashes, for example --rig-api-key",
    ))
}

/// An absolute URL: https anywhere, http on loopback hosts only, no user name or password, no fragment.
pub(crate) fn check_url(text: &str) -> Result<(), Fault> {
    let url = Url::parse(text).map_err(|error| {
        fault(
            format!("{text:?} is not a URL ({error})"),
            "write an absolute URL such as https://host/path",
        )
    })?;
    match url.scheme() {
        "https" if url.host().is_some() => {}
        "http" if is_loopback(&url) => {}
        "http" => {
            return Err(fault(
                format!(
                    "plain http to {} would show the credential to the network",
                    host_text(&url)
                ),
                "write https:// (http is accepted for 127.0.0.0/8, ::1 and localhost only)",
            ));
        }
        other => {
            return Err(fault(
                format!("{other}: is not a scheme that can be used here"),
                "write https://, or http:// for a loopback host",
            ));
        }
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(fault(
            "the URL holds a user name or password".to_owned(),
            "remove it from the URL",
        ));
    }
    if url.fragment().is_some() {
        return Err(fault(
            "the URL has a fragment".to_owned(),
            "remove the part from # on",
        ));
    }
    Ok(())
}

fn host_text(url: &Url) -> &str {
    url.host_str().unwrap_or("no host")
}

/// Whether the URL's host is this machine by name or number (127.0.0.0/8, `::1`, `localhost`).
#[must_use]
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
        None => false,
    }
}

/// An address that a callback listener may bind.
pub(crate) fn parse_callback_host(text: &str) -> Result<IpAddr, Fault> {
    let address = if text.eq_ignore_ascii_case("localhost") {
        Ok(IpAddr::from([127, 0, 0, 1]))
    } else {
        text.trim_matches(['[', ']']).parse::<IpAddr>()
    };
    match address {
        Ok(address) if address.is_loopback() => Ok(address),
        _ => Err(fault(
            format!("{text:?} is not a loopback address"),
            "write \"127.0.0.1\" or \"::1\"",
        )),
    }
}

/// The name of an HTTP header (RFC 9110 section 5.1).
pub(crate) fn check_header_name(text: &str) -> Result<(), Fault> {
    HeaderName::from_bytes(text.as_bytes()).map(drop).map_err(|_| {
        fault(
            format!("{text:?} is not a header name"),
            "write a name like x-api-key",
        )
    })
}

/// A header value (RFC 9110 section 5.5) whose placeholders are all known.
pub(crate) fn check_header_value(text: &str) -> Result<(), Fault> {
    if !is_header_text(text) {
        return Err(fault(
            "the value holds characters that a header cannot carry".to_owned(),
            "write visible ASCII",
        ));
    }
    for part in template_parts(text) {
        match part {
            TemplatePart::Placeholder(name) if is_known_placeholder(name) => {}
            TemplatePart::Placeholder(name) => {
                return Err(fault(
                    format!("the placeholder {{{name}}} is not known"),
                    "allowed are {account_id}, {email}, {plan} and {field.<name>}",
                ));
            }
            TemplatePart::Literal(literal) if literal.contains(['{', '}']) => {
                return Err(fault(
                    "a brace is not part of a placeholder".to_owned(),
                    "write for example {account_id}",
                ));
            }
            TemplatePart::Literal(_) => {}
        }
    }
    Ok(())
}

/// Whether `text` can stand in a header as it is.
pub(crate) fn is_header_text(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\t'))
}

fn is_known_placeholder(name: &str) -> bool {
    matches!(name, "account_id" | "email" | "plan")
        || name.strip_prefix("field.").is_some_and(|field| !field.is_empty())
}

/// A piece of a header template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TemplatePart<'a> {
    /// Text that stands for itself.
    Literal(&'a str),
    /// What stands between `{` and `}`.
    Placeholder(&'a str),
}

/// Cuts a header value into its parts.
pub(crate) fn template_parts(text: &str) -> Vec<TemplatePart<'_>> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        let Some((name, tail)) = after.split_once('}') else {
            break;
        };
        if !before.is_empty() {
            parts.push(TemplatePart::Literal(before));
        }
        parts.push(TemplatePart::Placeholder(name));
        rest = tail;
    }
    if !rest.is_empty() {
        parts.push(TemplatePart::Literal(rest));
    }
    parts
}

/// The name of an environment variable.
pub(crate) fn check_env_name(text: &str) -> Result<(), Fault> {
    let starts_well = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if starts_well && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        Ok(())
    } else {
        Err(fault(
            format!("{text:?} is not the name of an environment variable"),
            "write letters, digits and _ only, not beginning with a digit",
        ))
    }
}

/// A JSON pointer (RFC 6901 section 3).
pub(crate) fn check_pointer(text: &str) -> Result<(), Fault> {
    let escapes_well = text.split('~').skip(1).all(|after| after.starts_with(['0', '1']));
    if text.starts_with('/') && escapes_well {
        Ok(())
    } else {
        Err(fault(
            format!("{text:?} is not a JSON pointer"),
            "write for example \"/account/uuid\"; / inside a name is ~1, ~ is ~0",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let cases = [
            ("https://auth.example.com/token", true),
            ("http://127.0.0.1:9400/token", true),
            ("http://127.8.0.1/token", true),
            ("http://[::1]:1455/cb", true),
            ("http://localhost:1455/cb", true),
            ("http://LOCALHOST/cb", true),
            ("http://localhost.example.com/cb", false),
            ("http://10.0.0.1/token", false),
            ("http://auth.example.com/token", false),
            ("ftp://auth.example.com/", false),
            ("https://user:pw@auth.example.com/", false),
            ("https://auth.example.com/#frag", false),
            ("/relative", false),
        ];
        for (text, fine) in cases {
            assert_eq!(check_url(text).is_ok(), fine, "{text}");
        }
    }

    #[test]
    fn header_templates() {
        let cases = [
            ("2023-06-01", true),
            ("{account_id}", true),
            ("a={account_id};b={field.projectId}", true),
            ("{field.}", false),
            ("{token}", false),
            ("{account_id", false),
            ("a}", false),
            ("a\nb", false),
        ];
        for (text, fine) in cases {
            assert_eq!(check_header_value(text).is_ok(), fine, "{text}");
        }
    }

    #[test]
    fn pointers_and_names() {
        assert!(check_pointer("/https:~1~1api.openai.com~1auth/chatgpt_account_id").is_ok());
        for wrong in ["account", "/a~", "/a~2b"] {
            assert!(check_pointer(wrong).is_err(), "{wrong}");
        }
        assert!(check_env_name("Z_AI_API_KEY").is_ok());
        for wrong in ["9A", "A-B", "A B"] {
            assert!(check_env_name(wrong).is_err(), "{wrong}");
        }
        assert!(parse_callback_host("::1").is_ok());
        assert!(parse_callback_host("0.0.0.0").is_err());
    }
}
