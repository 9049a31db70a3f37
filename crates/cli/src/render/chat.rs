//! What a chat says beside its answers: the prompt line, who took over, and the object of `chat -p --json`.

use serde_json::{Value, json};
use tokensink_sink::{AgentId, ChatAnswer, ChatAttempt, Moved, ProfileId, Serving, UnixMillis};

use super::words::{iso, local};
use super::{Look, colour};

/// `main · anthropic/claude-opus-4-6 · anthropic:work › `; without an account where none can answer.
pub(crate) fn prompt(agent: &AgentId, model: &str, serving: Option<&Serving>) -> String {
    let mut parts = vec![agent.to_string()];
    match serving {
        None => parts.push(model.to_owned()),
        Some(serving) => {
            parts.push(serving.model.clone());
            parts.extend(account(serving));
        }
    }
    format!("{} › ", parts.join(" · "))
}

/// The account of whoever answers, and the program where one does.
fn account(serving: &Serving) -> Option<String> {
    let profile = serving
        .profile
        .as_ref()
        .map(|profile| profile.as_str().to_owned());
    match (profile, &serving.program) {
        (Some(profile), Some(program)) => Some(format!("{profile} via {program}")),
        (None, Some(program)) => Some(program.clone()),
        (profile, None) => profile,
    }
}

/// One line: who failed, why, until when, who goes on, and the price where it changes.
pub(crate) fn moved(moved: &Moved, now: UnixMillis, look: &Look) -> String {
    let who = |model: &str, account: Option<String>| match account {
        Some(account) if moved.from.model == moved.to.model => account,
        Some(account) => format!("{model} ({account})"),
        None => model.to_owned(),
    };
    let from = moved
        .from
        .profile
        .as_ref()
        .map(|profile| profile.as_str().to_owned());
    let until = moved.from.until.filter(|until| *until > now);
    let until = until.map_or_else(String::new, |until| {
        format!(", not tried until {}", local(until, &look.zone))
    });
    let price = match moved.from_billing {
        Some(billing) if billing != moved.to.billing => {
            format!(", which is {} instead of {billing}", moved.to.billing)
        }
        _ => String::new(),
    };
    format!(
        "{}: {}{until}; going on with {}{price}",
        who(&moved.from.model, from),
        moved.from.text,
        who(&moved.to.model, account(&moved.to)),
    )
}

/// Text that is safe on a terminal: no control character but line feed and tab, so that an answer cannot steer it.
pub(crate) fn harmless(text: &str) -> String {
    text.chars()
        .filter(|c| !c.is_control() || matches!(c, '\n' | '\t'))
        .collect()
}

/// Why an answer is shorter than it would be.
pub(crate) fn stopped(stop: &str) -> String {
    format!("the answer ended before its end: {stop}")
}

/// A line for the eye.
pub(crate) fn faint(text: &str, look: &Look) -> String {
    look.paint(colour::FAINT, text)
}

/// `chat -p --json`.
pub(crate) fn answer(answer: &ChatAnswer) -> Value {
    let serving = &answer.serving;
    json!({
        "answer": answer.text,
        "model": serving.model,
        "profile": serving.profile.as_ref().map(ProfileId::as_str),
        "program": serving.program,
        "billing": serving.billing.as_str(),
        "stopReason": answer.stop,
        "usage": {
            "inputTokens": answer.usage.input_tokens,
            "outputTokens": answer.usage.output_tokens,
        },
        "attempts": answer.attempts.iter().map(attempt).collect::<Vec<_>>(),
    })
}

fn attempt(attempt: &ChatAttempt) -> Value {
    json!({
        "model": attempt.model,
        "profile": attempt.profile.as_ref().map(ProfileId::as_str),
        "reason": attempt.reason.as_str(),
        "error": attempt.text,
        "until": attempt.until.map(iso),
    })
}

#[cfg(test)]
mod tests {
    use tokensink_sink::{BillingClass, Reason};

    use super::*;
    use crate::name::Name;

    fn serving(model: &str, profile: Option<&str>, program: Option<&str>) -> Serving {
        Serving {
            model: model.to_owned(),
            profile: profile.map(|id| ProfileId::parse(id).unwrap()),
            email: None,
            billing: BillingClass::Subscription,
            program: program.map(str::to_owned),
        }
    }

    #[test]
    fn the_prompt_says_who_will_answer() {
        let main = AgentId::normalise("main");
        let cases = [
            (None, "main · rig/rig-small › "),
            (
                Some(serving("rig/rig-large", Some("rig:a"), None)),
                "main · rig/rig-large · rig:a › ",
            ),
            (
                Some(serving(
                    "anthropic/opus",
                    Some("anthropic:claude-cli"),
                    Some("claude"),
                )),
                "main · anthropic/opus · anthropic:claude-cli via claude › ",
            ),
            (
                Some(serving("claude-cli/opus", None, Some("claude"))),
                "main · claude-cli/opus · claude › ",
            ),
        ];
        for (serving, want) in cases {
            assert_eq!(prompt(&main, "rig/rig-small", serving.as_ref()), want);
        }
    }

    #[test]
    fn a_failover_is_one_line() {
        let from = ChatAttempt {
            model: "rig/rig-small".to_owned(),
            profile: ProfileId::parse("rig:work").ok(),
            reason: Reason::RateLimit,
            text: "429: slow down".to_owned(),
            until: Some(UnixMillis(1_767_225_600_000)),
        };
        let look = Look::plain(Name::OWN);
        let mut told = Moved {
            from,
            from_billing: Some(BillingClass::Subscription),
            to: serving("rig/rig-small", Some("rig:home"), None),
        };
        let before = UnixMillis(1_767_225_000_000);
        assert_eq!(
            moved(&told, before, &look),
            "rig:work: 429: slow down, not tried until 2026-01-01 00:00; going on with rig:home"
        );
        told.to = Serving {
            billing: BillingClass::Metered,
            ..serving("openai/gpt-5.1", Some("openai:key"), None)
        };
        told.from.until = None;
        assert_eq!(
            moved(&told, before, &look),
            "rig/rig-small (rig:work): 429: slow down; going on with openai/gpt-5.1 (openai:key), which is metered \
             instead of subscription"
        );
    }

    #[test]
    fn an_answer_does_not_steer_the_terminal() {
        assert_eq!(harmless("a\u{1b}]0;x\u{7}b\r\n\tc\u{9b}1m"), "a]0;xb\n\tc1m");
    }
}
