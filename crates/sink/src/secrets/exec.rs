//! Secrets from programs: one request with many ids, one answer (spec.md 16.3).
//!
//! The request is `{"protocolVersion": 1, "provider": alias, "ids": [...]}` on standard input, the answer
//! `{"protocolVersion": 1, "values": {id: text}, "errors"?: {id: {"message": text}}}` on standard output with exit code
//! 0. With `jsonOnly: false` a program may print just the secret; it is then asked for one id at a time, so that what
//! works for one reference works for several. Standard error is never shown: it may hold secrets. No shell is
//! involved, and the program sees no variable that was not named.

use std::ffi::OsString;

use serde_json::{Map, Value, json};
use tokensink_host::{BoundedEnd, BoundedError, BoundedRequest, Environment, Host};
use tokensink_store::wipe_json;
use tokensink_types::{Body, Secret};

use super::config::ExecProvider;
use super::guard::{self, Allowed, Role, Trusted};
use super::reference::{Failure, Reference};
use super::value;

/// Version of the protocol.
const PROTOCOL: u64 = 1;
/// Most characters of a program's own message that are shown.
const MESSAGE_MAX: usize = 200;

/// Asks the program of this provider for all of `references`.
pub(super) fn resolve(
    host: &Host,
    provider: &ExecProvider,
    batch_bytes: usize,
    references: &[Reference],
) -> Vec<Result<Secret, Failure>> {
    let allowed = Allowed {
        link: provider.allow_link,
        insecure: provider.allow_insecure,
        dirs: &provider.trusted_dirs,
    };
    let trusted = match guard::check(&*host.files, &provider.command, Role::Command, allowed) {
        Ok(trusted) => trusted,
        Err(refusal) => {
            let failed =
                |reference: &Reference| reference.failed(Some("command"), &*refusal.cause, &*refusal.fix);
            return references
                .iter()
                .map(|reference| Err(failed(reference)))
                .collect();
        }
    };
    let ask = |references: &[Reference]| {
        let asked = Asked {
            provider,
            program: &trusted,
            references,
        };
        asked.ask(host, batch_bytes)
    };
    if provider.json_only {
        return ask(references);
    }
    references.chunks(1).flat_map(ask).collect()
}

/// One request.
struct Asked<'a> {
    provider: &'a ExecProvider,
    program: &'a Trusted,
    references: &'a [Reference],
}

/// Why there is no answer for any of them: the field, the cause and the fix.
type Trouble = (&'static str, String, String);

impl Asked<'_> {
    fn ask(&self, host: &Host, batch_bytes: usize) -> Vec<Result<Secret, Failure>> {
        let answered = self
            .request(batch_bytes)
            .and_then(|input| self.run(host, input))
            .and_then(|output| self.parse(&output));
        match answered {
            Ok(answer) => self
                .references
                .iter()
                .map(|reference| answer.value_of(reference))
                .collect(),
            Err((field, cause, fix)) => {
                let failed = |reference: &Reference| reference.failed(Some(field), &*cause, &*fix);
                self.references
                    .iter()
                    .map(|reference| Err(failed(reference)))
                    .collect()
            }
        }
    }

    fn request(&self, batch_bytes: usize) -> Result<Body, Trouble> {
        let alias = self.references.first().map_or("", |first| &first.provider);
        let ids: Vec<&str> = self.references.iter().map(|reference| &*reference.id).collect();
        let text = json!({"protocolVersion": PROTOCOL, "provider": alias, "ids": ids}).to_string();
        if text.len() > batch_bytes {
            return Err((
                "command",
                format!(
                    "the request for {} ids is larger than {batch_bytes} bytes",
                    ids.len()
                ),
                "raise secrets.resolution.maxBatchBytes, or spread the references over several providers"
                    .to_owned(),
            ));
        }
        Ok(Body::new(text))
    }

    fn run(&self, host: &Host, input: Body) -> Result<Body, Trouble> {
        let command = &self.program.path;
        let dir = command
            .parent()
            .map_or_else(|| "/".into(), std::path::Path::to_owned);
        let request = BoundedRequest {
            program: command.clone(),
            args: self.provider.args.iter().map(OsString::from).collect(),
            env: environment(self.provider, &*host.env),
            dir,
            input,
            bounds: self.provider.bounds,
        };
        let shown = command.display();
        let by_hand = format!(
            "run {shown} by hand with the same arguments and environment to see what it says (its standard error is not shown here, since it may hold secrets)"
        );
        match host.processes.run_bounded(request) {
            Ok(BoundedEnd { code: 0, output }) => Ok(output),
            Ok(BoundedEnd { code, .. }) => {
                Err(("command", format!("{shown} ended with exit code {code}"), by_hand))
            }
            Err(error) => {
                let (field, fix) = match &error {
                    BoundedError::TooLong(_) => {
                        ("timeoutMs", "raise timeoutMs, if it needs longer".to_owned())
                    }
                    BoundedError::TooQuiet(_) => (
                        "noOutputTimeoutMs",
                        "raise noOutputTimeoutMs, if it needs longer".to_owned(),
                    ),
                    BoundedError::TooMuch(_) => (
                        "maxOutputBytes",
                        "make it print the secrets only, or raise maxOutputBytes".to_owned(),
                    ),
                    _ => ("command", by_hand),
                };
                Err((field, format!("{shown} {error}"), fix))
            }
        }
    }

    fn parse(&self, output: &Body) -> Result<Answer, Trouble> {
        let shown = self.program.path.display();
        let wrong = |cause: String| {
            let or = if self.provider.json_only {
                ", or set jsonOnly to false if it prints just the secret"
            } else {
                ""
            };
            let fix = format!(
                "make it print {{\"protocolVersion\": 1, \"values\": {{\"<id>\": \"<secret>\"}}}}{or}"
            );
            ("jsonOnly", format!("{shown} {cause}"), fix)
        };
        let Ok(text) = std::str::from_utf8(output.expose()) else {
            return Err(wrong("printed something that is not UTF-8 text".to_owned()));
        };
        if text.trim().is_empty() {
            return Err(wrong("printed nothing".to_owned()));
        }
        match serde_json::from_str(text) {
            Ok(Value::Object(map)) => Answer::of(map).map_err(wrong),
            Ok(Value::String(text)) if !self.provider.json_only => Ok(Answer::Single(Secret::new(text))),
            // A key that consists of digits is a JSON number as well; what is printed is what is meant.
            Ok(mut other) if !self.provider.json_only && !other.is_array() => {
                wipe_json(&mut other);
                Ok(Answer::Single(Secret::new(text)))
            }
            Ok(mut other) => {
                let kind = value::kind(&other);
                wipe_json(&mut other);
                Err(wrong(format!("printed {kind} instead of an object")))
            }
            Err(_) if !self.provider.json_only => Ok(Answer::Single(Secret::new(text))),
            Err(error) => Err(wrong(format!(
                "printed something that is not JSON (line {}, column {})",
                error.line(),
                error.column()
            ))),
        }
    }
}

/// The whole environment of a program: what is passed on, then what is set for it.
fn environment(provider: &ExecProvider, ours: &dyn Environment) -> Vec<(OsString, Secret)> {
    let passed = provider
        .pass_env
        .iter()
        .filter_map(|name| Some((OsString::from(name), Secret::new(ours.var(name)?))));
    let set = provider
        .env
        .iter()
        .map(|(name, value)| (OsString::from(name), value.clone()));
    passed.chain(set).collect()
}

/// What a program answered. Wiped when dropped.
enum Answer {
    Single(Secret),
    Many {
        values: Map<String, Value>,
        errors: Map<String, Value>,
    },
}

impl Drop for Answer {
    fn drop(&mut self) {
        if let Self::Many { values, errors } = self {
            values.values_mut().for_each(wipe_json);
            errors.values_mut().for_each(wipe_json);
        }
    }
}

impl Answer {
    fn of(mut map: Map<String, Value>) -> Result<Self, String> {
        let version = map.get("protocolVersion").and_then(Value::as_u64);
        let mut take = |key: &str| match map.remove(key) {
            Some(Value::Object(map)) => Ok(Some(map)),
            None | Some(Value::Null) => Ok(None),
            Some(mut other) => {
                wipe_json(&mut other);
                Err(format!("printed an answer whose {key:?} is no object"))
            }
        };
        let (values, errors) = (take("values"), take("errors"));
        map.values_mut().for_each(wipe_json);
        let answer = Self::Many {
            errors: errors?.unwrap_or_default(),
            values: values?.unwrap_or_default(),
        };
        if version != Some(PROTOCOL) {
            return Err(format!(
                "printed an answer without \"protocolVersion\": {PROTOCOL}"
            ));
        }
        Ok(answer)
    }

    fn value_of(&self, reference: &Reference) -> Result<Secret, Failure> {
        let check = |text: &str| {
            value::usable(text).map_err(|blank| {
                let fix = format!("look what is stored under {}", reference.id);
                reference.failed(Some("command"), format!("the program's answer {blank}"), fix)
            })
        };
        let (values, errors) = match self {
            Self::Single(secret) => return check(secret.expose()),
            Self::Many { values, errors } => (values, errors),
        };
        match values.get(&reference.id) {
            Some(Value::String(text)) => check(text),
            Some(other) => Err(reference.failed(
                Some("command"),
                format!(
                    "the program answered with {} instead of a text",
                    value::kind(other)
                ),
                "make it print every value as a JSON string",
            )),
            None => {
                let cause = match errors.get(&reference.id) {
                    Some(error) => format!("the program says: {}", message(error, values)),
                    None => "the program's answer lacks it".to_owned(),
                };
                let fix = format!("look whether {} exists where the program looks", reference.id);
                Err(reference.failed(Some("command"), cause, fix))
            }
        }
    }
}

/// A program's own words, cut and without control characters; not shown when one of the values is among them.
fn message(error: &Value, values: &Map<String, Value>) -> String {
    let text = error
        .get("message")
        .and_then(Value::as_str)
        .or_else(|| error.as_str())
        .unwrap_or("(no message)");
    let tells = |value: &Value| {
        let secret = value.as_str().map(str::trim).filter(|secret| !secret.is_empty());
        secret.is_some_and(|secret| text.contains(secret))
    };
    if values.values().any(tells) {
        return "(its message is not shown, for it holds a secret)".to_owned();
    }
    let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    plain.take(MESSAGE_MAX).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;
    use tokensink_store::{Config, Paths};
    use tokensink_testkit::TestHost;

    use super::super::config::{Provider, SecretsConfig};
    use super::super::reference::Source;
    use super::*;

    /// What a program that prints `output` leads to, for two ids.
    fn answered(output: &[u8], json_only: bool) -> Vec<Result<Secret, Failure>> {
        let test = TestHost::new();
        test.files.put("/home/user/get", "#!", 0o755);
        let output = output.to_vec();
        test.processes.on_start(move |_| Ok(output.clone()));
        let config = json!({"secrets": {"providers": {
            "p": {"source": "exec", "command": "/home/user/get", "jsonOnly": json_only},
        }}});
        let paths = Paths::resolve(&test.env).unwrap();
        let config = SecretsConfig::of(&Config::parse(&config.to_string()).unwrap(), &paths);
        let Ok(Provider::Exec(provider)) = config.provider(Source::Exec, "p") else {
            panic!("no provider")
        };
        let reference = |id: &str| Reference {
            source: Source::Exec,
            provider: "p".to_owned(),
            id: id.to_owned(),
        };
        resolve(&test.host(), &provider, 1000, &[reference("a"), reference("b")])
    }

    #[test]
    fn each_id_gets_its_own_answer() {
        let output = json!({"protocolVersion": 1, "values": {"a": " one\n", "c": "x"}}).to_string();
        let found = answered(output.as_bytes(), true);
        assert_eq!(found[0].as_ref().unwrap().expose(), "one");
        assert!(found[1].as_ref().unwrap_err().cause.contains("lacks it"));
    }

    proptest! {
        #[test]
        fn whatever_is_printed_leads_to_a_value_or_a_word_without_it(
            output in proptest::collection::vec(any::<u8>(), 0..80),
            json_only: bool,
        ) {
            let found = answered(&output, json_only);
            prop_assert_eq!(found.len(), 2);
            for value in found {
                match value {
                    Ok(secret) => prop_assert!(!secret.is_blank() && !json_only),
                    Err(failure) => prop_assert!(!failure.fix.is_empty()),
                }
            }
        }

        #[test]
        fn errors_hold_nothing_of_what_was_printed(tail in "[a-z{}\\[\\],:0-9 ]{0,30}") {
            for json_only in [true, false] {
                for found in answered(format!("{{\"canary-secret\": {tail}").as_bytes(), json_only) {
                    if let Err(failure) = found {
                        let said = format!("{failure} {}", failure.fix);
                        prop_assert!(!said.contains("canary"));
                    }
                }
            }
        }
    }
}
