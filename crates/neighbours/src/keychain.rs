//! Items of the macOS Keychain, through the system's `security` command (spec.md 10.1; pains: prompt storms).
//!
//! It promises that nobody is asked where nobody may be asked: the item's presence is looked up without its secret
//! first, and the secret is fetched only if a prompt is allowed. A secret is never an argument of the command.

use std::io::{self, Write};
use std::time::Duration;

use tokensink_host::{Ended, Host, ProcessRequest, StdioSource};
use tokensink_types::Body;

use crate::write::edit_error;
use crate::{NeighbourError, Place, Reading};

/// How long the command may take; a prompt that nobody answers counts (spec.md 10.1).
const LIMIT: Duration = Duration::from_secs(5);
/// The command's exit code for an item that is not there (errSecItemNotFound).
const NOT_FOUND: i32 = 44;
/// Longest line in bytes that the command's interactive mode takes whole; Claude Code keeps to it as well.
const LINE_MAX: usize = 4032;

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

/// Replaces the secret of an item that exists, and reads it back: the command's interactive mode ends well whatever
/// became of the lines that it was given. The caller has read the item, so a prompt is allowed.
pub(crate) fn write(
    host: &Host,
    place: &Place,
    service: &str,
    account: &str,
    secret: &Body,
) -> Result<(), NeighbourError> {
    let line = update_line(service, account, secret).map_err(|why| edit_error(place, why))?;
    let failed = |error: io::Error| edit_error(place, &format!("running `security` failed: {error}"));
    let (reader, mut writer) = io::pipe().map_err(failed)?;
    // It fits the pipe's buffer by far, so nobody has to read yet.
    writer.write_all(line.expose()).map_err(failed)?;
    drop(writer);
    let ended = run(host, &["-i"], StdioSource::Descriptor(reader.into())).map_err(failed)?;
    match read(host, service, account, true) {
        Ok(found) if found == *secret => Ok(()),
        _ => Err(edit_error(
            place,
            &format!(
                "`security -i` ended with exit code {} and the item does not hold what was written",
                ended.code
            ),
        )),
    }
}

/// The line for the command's interactive mode, with the secret in hexadecimal digits.
fn update_line(service: &str, account: &str, secret: &Body) -> Result<Body, &'static str> {
    let is_plain = |text: &str| !text.chars().any(|c| matches!(c, '"' | '\\') || c.is_control());
    if !is_plain(service) || !is_plain(account) {
        return Err("its name holds a character that `security` would take for its own");
    }
    let digits = Body::new(hex::encode(secret.expose()));
    let head = format!("add-generic-password -U -a \"{account}\" -s \"{service}\" -X ");
    let mut line = Vec::with_capacity(head.len() + digits.len() + 1);
    line.extend_from_slice(head.as_bytes());
    line.extend_from_slice(digits.expose());
    line.push(b'\n');
    let line = Body::new(line);
    if line.len() > LINE_MAX {
        return Err("it is too long for `security -i`, and a secret is never put into arguments");
    }
    Ok(line)
}

fn security(host: &Host, args: &[&str]) -> Result<Ended, Reading> {
    run(host, args, StdioSource::Null).map_err(|error| Reading::Unusable {
        reason: format!("the Keychain cannot be asked: running `security` failed: {error}"),
    })
}

fn run(host: &Host, args: &[&str], stdin: StdioSource) -> io::Result<Ended> {
    let request = ProcessRequest {
        program: "security".into(),
        args: args.iter().map(Into::into).collect(),
        set_env: Vec::new(),
        remove_env: Vec::new(),
        stdin,
    };
    host.processes.spawn(request)?.wait(LIMIT)
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

    #[test]
    fn a_secret_goes_in_as_digits_or_not_at_all() {
        let line = update_line("Claude Code-credentials", "ann", &Body::new("{}")).unwrap();
        let text = std::str::from_utf8(line.expose()).unwrap();
        assert_eq!(
            text,
            "add-generic-password -U -a \"ann\" -s \"Claude Code-credentials\" -X 7b7d\n"
        );
        assert!(update_line("s", "a\"b", &Body::new("{}")).is_err());
        assert!(update_line("s", "a\nb", &Body::new("{}")).is_err());
        assert!(update_line("s", "a", &Body::new("x".repeat(2000))).is_err());
    }
}
