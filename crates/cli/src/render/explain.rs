//! Why an account was chosen, as text and as JSON.

use serde_json::{Value, json};
use tokensink_sink::{
    BillingClass, Bucket, ExplainedAttempt, ExplainedBench, ExplainedChoice, ExplainedProfile, Explanation,
    Reproduced, UnixMillis,
};

use super::json::bucket_word;
use super::table::{Cell, Table};
use super::{Look, colour, words};

/// `explain`.
pub(crate) fn text(told: &Explanation, look: &Look) -> String {
    let parts: Vec<String> = told
        .choices
        .iter()
        .map(|choice| one(choice, told.now, look))
        .collect();
    parts.join("\n")
}

fn one(choice: &ExplainedChoice, now: UnixMillis, look: &Look) -> String {
    let mut text = head(choice, now, look);
    if !choice.profiles.is_empty() {
        text.push('\n');
        text += &profiles(choice, look);
        text.push('\n');
    }
    text += &outcome(choice, look);
    for attempt in &choice.attempts {
        text += &attempted(attempt, now, look);
    }
    text += &match &choice.reproduced {
        Reproduced::Same => "Reproduced: the recorded inputs lead to the same decision.\n".to_owned(),
        Reproduced::Differs(found) => {
            let label = look.paint(colour::BAD, "Not reproduced:");
            format!(
                "{label} the recorded inputs lead to another decision.\n  {}\n",
                found.join("\n  ")
            )
        }
        Reproduced::NotRecorded if choice.id.is_some() => {
            "What it was made of is no longer kept.\n".to_owned()
        }
        Reproduced::NotRecorded => String::new(),
    };
    text
}

fn head(choice: &ExplainedChoice, now: UnixMillis, look: &Look) -> String {
    let mut text = match &choice.id {
        None => "Now".to_owned(),
        Some(id) => {
            let when = format!(
                "{} ({})",
                words::relative(choice.at, now),
                words::exact(choice.at, &look.zone)
            );
            match &choice.request {
                Some(request) => format!("Lease {id} of request {request}, {when}"),
                None => format!("Lease {id}, {when}"),
            }
        }
    };
    text += &format!(": agent {}", choice.agent);
    if !choice.wanted.is_empty() {
        text += &format!(" wants {}", choice.wanted);
    }
    if let Some(model) = &choice.model {
        text += &format!(", model {model}");
    }
    text.push('\n');
    if let Some((source, profile)) = &choice.session_pin {
        text += &format!("Session: on {profile} ({source})\n");
    }
    if !choice.tried.is_empty() {
        text += &format!("Tried before: {}\n", choice.tried.join(", "));
    }
    if let Some(order) = choice.order {
        text += &format!("Order: {order}, {}\n", order_words(order));
    }
    text
}

fn order_words(order: &str) -> &'static str {
    match order {
        "stored-order" => "set by `models auth order set`",
        "config-order" => "auth.order in openclaw.json",
        "config-profiles" => "the entries of auth.profiles in openclaw.json",
        _ => "all that are stored, by type and last use",
    }
}

fn profiles(choice: &ExplainedChoice, look: &Look) -> String {
    let mut table = Table::new(&["", "Profile", "Rule", "Cost", "Until", "Why"]);
    for profile in &choice.profiles {
        let is_chosen = choice.chosen.as_ref() == Some(&profile.profile);
        let style = if is_chosen {
            colour::GOOD
        } else {
            anstyle::Style::new()
        };
        let until = profile
            .bench
            .as_ref()
            .map(|bench| words::exact(bench.until, &look.zone));
        table.row(vec![
            profile
                .position
                .map_or_else(|| "-".to_owned(), |place| (place + 1).to_string())
                .into(),
            Cell::styled(profile.profile.as_str(), style),
            profile.rule.into(),
            profile.billing.map_or("", BillingClass::as_str).into(),
            until.unwrap_or_default().into(),
            profile.why.as_str().into(),
        ]);
    }
    table.render(look)
}

fn outcome(choice: &ExplainedChoice, look: &Look) -> String {
    let mut text = match (&choice.chosen, &choice.unavailable) {
        (Some(profile), _) => format!("Chosen: {}", look.paint(colour::GOOD, profile)),
        (None, Some(why)) => {
            let fix = choice.fix.as_ref();
            let fix = fix.map_or_else(String::new, |fix| format!("\nTo fix it: {fix}"));
            format!("{} {why}{fix}", look.paint(colour::BAD, "Nobody:"))
        }
        (None, None) => String::new(),
    };
    if let Some(why) = choice.pin_why {
        text += &format!("; the session: {why}");
    }
    match &choice.served {
        Some(served) if choice.chosen.as_ref() != Some(served) => {
            text += &format!("\nHanded out: {served}, since the chosen one could not serve");
        }
        _ => {}
    }
    if let Some(code) = choice.error.as_ref().filter(|_| choice.chosen.is_some()) {
        text += &format!("\n{} {code}", look.paint(colour::BAD, "Nothing was handed out:"));
    }
    if !text.is_empty() {
        text.push('\n');
    }
    text
}

fn attempted(attempt: &ExplainedAttempt, now: UnixMillis, look: &Look) -> String {
    let style = if attempt.outcome == "served" {
        colour::GOOD
    } else {
        colour::WARN
    };
    let mut text = format!(
        "Call: {} {} {}",
        words::exact(attempt.at, &look.zone),
        attempt.profile,
        look.paint(style, &attempt.outcome)
    );
    if let Some(status) = attempt.status {
        text += &format!(" with {status}");
    }
    if let (Some(reason), Some(rule)) = (&attempt.reason, &attempt.rule) {
        text += &format!(": {reason} (rule {rule})");
    }
    if let Some(bench) = &attempt.bench {
        let what = match &bench.bucket {
            Bucket::Account => "the account".to_owned(),
            Bucket::Model(model) => format!("model {model}"),
            Bucket::Unnamed => "calls without a model".to_owned(),
        };
        let stated = if bench.stated == Some(true) {
            ", as the provider said"
        } else {
            ""
        };
        text += &format!(
            "; {what} benched until {} ({}{stated})",
            words::exact(bench.until, &look.zone),
            words::relative(bench.until, now),
        );
    }
    text.push('\n');
    text
}

/// `explain --json`.
pub(crate) fn json(told: &Explanation) -> Value {
    let choices: Vec<Value> = told.choices.iter().map(choice_json).collect();
    json!({ "now": told.now.0, "choices": choices })
}

fn choice_json(choice: &ExplainedChoice) -> Value {
    let (reproduced, differences) = match &choice.reproduced {
        Reproduced::Same => (Some(true), None),
        Reproduced::Differs(found) => (Some(false), Some(found)),
        Reproduced::NotRecorded => (None, None),
    };
    let pin = choice
        .session_pin
        .as_ref()
        .map(|(source, profile)| json!({ "source": source, "profileId": profile }));
    json!({
        "id": choice.id,
        "request": choice.request,
        "at": choice.at.0,
        "agentId": choice.agent,
        "wanted": choice.wanted,
        "model": choice.model,
        "sessionPin": pin,
        "tried": choice.tried,
        "order": choice.order,
        "profiles": choice.profiles.iter().map(profile_json).collect::<Vec<_>>(),
        "chosen": choice.chosen,
        "unavailable": choice.unavailable,
        "fix": choice.fix,
        "served": choice.served,
        "error": choice.error,
        "pinWhy": choice.pin_why,
        "attempts": choice.attempts.iter().map(attempt_json).collect::<Vec<_>>(),
        "reproduced": reproduced,
        "differences": differences,
    })
}

fn profile_json(profile: &ExplainedProfile) -> Value {
    json!({
        "profileId": profile.profile,
        "owner": profile.owner,
        "position": profile.position,
        "rule": profile.rule,
        "why": profile.why,
        "eligibility": profile.eligibility,
        "billing": profile.billing.map(BillingClass::as_str),
        "bench": profile.bench.as_ref().map(bench_json),
        "freeAt": profile.free_at.map(|at| at.0),
        "tests": profile.tests,
    })
}

fn bench_json(bench: &ExplainedBench) -> Value {
    json!({
        "reason": bench.reason,
        "bucket": bucket_word(&bench.bucket),
        "model": bench.bucket.model(),
        "until": bench.until.0,
        "leftMs": bench.left.as_millis(),
        "stated": bench.stated,
    })
}

fn attempt_json(attempt: &ExplainedAttempt) -> Value {
    json!({
        "at": attempt.at.0,
        "profileId": attempt.profile,
        "outcome": attempt.outcome,
        "status": attempt.status,
        "reason": attempt.reason,
        "rule": attempt.rule,
        "bench": attempt.bench.as_ref().map(bench_json),
    })
}
