//! Items of the macOS Keychain, through the system's `security` command (spec.md 10.1; pains: prompt storms).
//!
//! It promises that nobody is asked where nobody may be asked: the item's presence is looked up without its secret
//! first, and the secret is fetched only if a prompt is allowed. A secret is never an argument of the command.

use std::time::Duration;

use tokensink_host::{Ended, Host, ProcessRequest, StdioSource};
use tokensink_types::Body;

use crate::Reading;

/// How long the command may take; a prompt that nobody answers counts (spec.md 10.1).
const LIMIT: Duration = Duration::from_secs(5);
/// The command's exit code for an item that is not there (errSecItemNotFound).
const NOT_FOUND: i32 = 44;

/// The secret of an item.
pub(crate) fn read(host: &Host, service: &str, account: &str, may_prompt: bool) -> Result<Body, Reading> {
    let item = ["find-generic-password", "-a", account, "-s", service];
    let looked = security(host, &item)?;
    if looked.code == NOT_FOUND {
        return Err(Reading::Missing);
    }
    if looked.code == 0 && !may_prompt {
        return Err(locked(service));
    }
    if looked.code != 0 {
        return Err(unusable(service, &looked));
    }
    let mut fetch = item.to_vec();
    fetch.push("-w");
    let found = security(host, &fetch)?;
    match found.code {
        0 => Ok(secret_of(found.output)),
        NOT_FOUND => Err(Reading::Missing),
        // Denied, or the Keychain is locked: the user can mend both.
        _ => Err(locked(service)),
    }
}

fn security(host: &Host, args: &[&str]) -> Result<Ended, Reading> {
    let request = ProcessRequest {
        program: "security".into(),
        args: args.iter().map(Into::into).collect(),
        set_env: Vec::new(),
        remove_env: Vec::new(),
        stdin: StdioSource::Null,
    };
    let ended = host
        .processes
        .spawn(request)
        .and_then(|mut child| child.wait(LIMIT));
    ended.map_err(|error| Reading::Unusable {
        reason: format!("the Keychain cannot be asked: running `security` failed: {error}"),
    })
}

/// The command prints an item that is not plain ASCII as hexadecimal digits.
fn secret_of(printed: Vec<u8>) -> Body {
    let printed = Body::new(printed);
    let text = printed.expose().trim_ascii();
    match hex::decode(text) {
        Ok(bytes) if !bytes.is_empty() => Body::new(bytes),
        Ok(_) | Err(_) => Body::new(text),
    }
}

fn locked(service: &str) -> Reading {
    Reading::Locked {
        hint: format!(
            "macOS asks before it hands out the Keychain item \"{service}\"; run `tokensink external list` in a \
             terminal of that Mac and answer \"Always Allow\""
        ),
    }
}

fn unusable(service: &str, ended: &Ended) -> Reading {
    let complaint = String::from_utf8_lossy(&ended.complaint);
    Reading::Unusable {
        reason: format!(
            "the Keychain item \"{service}\" cannot be looked up: `security` ended with exit code {}: {}",
            ended.code,
            complaint.trim()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printed_secrets_are_plain_or_digits() {
        let cases: [(&[u8], &[u8]); 4] = [
            (b"{\"a\":1}\n", b"{\"a\":1}"),
            (b"7b2261223a22c3a9227d\n", "{\"a\":\"é\"}".as_bytes()),
            (b"\n", b""),
            (b"plain", b"plain"),
        ];
        for (printed, want) in cases {
            assert_eq!(secret_of(printed.to_vec()).expose(), want);
        }
    }
}
