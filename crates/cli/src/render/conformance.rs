//! The conformance kit's catalogue and scores.

use std::time::Duration;

use serde_json::{Value, json};
use tokensink_conformance::{Judged, Progress, Report, SCENARIOS, Serving, Verdict};

use super::table::{Cell, Table, wrap};
use super::{Look, colour};

/// The catalogue for people.
pub(crate) fn scenarios(look: &Look) -> String {
    let mut out = String::new();
    for scenario in &SCENARIOS {
        out.push_str(&look.paint(colour::HEADING, scenario.id));
        out.push('\n');
        for text in [
            scenario.title.to_owned(),
            format!("{} ({})", scenario.why, scenario.source),
        ] {
            for line in wrap(&text, look.width.saturating_sub(4)) {
                out.push_str("    ");
                out.push_str(&line);
                out.push('\n');
            }
        }
    }
    out
}

/// The catalogue as an array.
pub(crate) fn scenarios_json() -> Value {
    SCENARIOS
        .iter()
        .map(|scenario| {
            json!({"id": scenario.id, "title": scenario.title, "why": scenario.why, "source": scenario.source})
        })
        .collect()
}

/// A score for people: a line for each scenario, and the sum.
pub(crate) fn report(report: &Report, look: &Look) -> String {
    let mut table = Table::new(&["Scenario", "Result", "Seen"]);
    for judged in &report.judged {
        table.row(vec![
            judged.scenario.id.into(),
            result(judged),
            judged.verdict.detail().into(),
        ]);
    }
    let counts = report.counts();
    let style = if report.is_clean() {
        colour::GOOD
    } else {
        colour::BAD
    };
    let mut sum = format!("{} of {} passed", counts.passed, counts.passed + counts.failed);
    for (count, what) in [
        (counts.not_applicable, "not applicable"),
        (counts.not_judged, "not judged"),
    ] {
        if count > 0 {
            sum.push_str(&format!(", {count} {what}"));
        }
    }
    format!(
        "{}\n{} {}: {}\n",
        table.render(look),
        report.client,
        report.version,
        look.paint(style, &sum)
    )
}

/// A scenario that is over, for people who wait.
pub(crate) fn progress(progress: &Progress<'_>, look: &Look) -> String {
    format!(
        "{}/{} {} {} ({:.1} s)",
        progress.done,
        progress.all,
        progress.judged.scenario.id,
        result(progress.judged).painted(look),
        Duration::from_millis(progress.judged.millis).as_secs_f64()
    )
}

/// What a server that is up offers, and how programs are led to it.
pub(crate) fn serving(serving: &Serving, provider: &str, look: &Look) -> String {
    let issuer = serving.issuer();
    let heading = |text: &str| look.paint(colour::HEADING, text);
    let mut out = format!(
        "{} {issuer}\n",
        heading("A strict authorization server listens on")
    );
    let accounts = serving.accounts().join(", ");
    let own = [
        ("clientId", serving.client_id().to_owned()),
        ("accounts", accounts),
        ("redirectUris", serving.redirect_uris().join(", ")),
    ];
    for (name, value) in serving.endpoints().into_iter().chain(own) {
        out.push_str(&format!("  {name:<28}{value}\n"));
    }
    out.push_str(&format!("\n{}\n", heading("By hand")));
    for (what, command) in [
        (
            "a login without a browser",
            "-d '{\"account\":\"alice\"}' {issuer}/__issue",
        ),
        (
            "the next refresh loses its answer",
            "-d '{\"grant\":\"refresh_token\",\"action\":{\"kind\":\"cut_before_answer\"}}' {issuer}/__faults",
        ),
    ] {
        let command = format!("curl {}", command.replace("{issuer}", &issuer));
        out.push_str(&format!(
            "  {what}:\n    {}\n",
            look.paint(colour::COMMAND, &command)
        ));
    }
    let path = format!("<state dir>/tokensink/providers/{provider}.toml");
    out.push_str(&format!("\n{}\n", heading(&format!("For tokensink, in {path}"))));
    out.push_str(&serving.provider_toml(provider));
    out.push_str(&format!("\n{}\n", look.paint(colour::FAINT, "Ctrl-C ends it.")));
    out
}

/// The same as an object.
pub(crate) fn serving_json(serving: &Serving, provider: &str) -> Value {
    let endpoints: serde_json::Map<String, Value> = serving
        .endpoints()
        .into_iter()
        .map(|(name, url)| (name.to_owned(), url.into()))
        .collect();
    json!({
        "issuer": serving.issuer(),
        "endpoints": endpoints,
        "clientId": serving.client_id(),
        "accounts": serving.accounts(),
        "redirectUris": serving.redirect_uris(),
        "providerToml": serving.provider_toml(provider),
    })
}

fn result(judged: &Judged) -> Cell {
    let style = match judged.verdict {
        Verdict::Passed(_) => colour::GOOD,
        Verdict::Failed(_) => colour::BAD,
        Verdict::NotJudged(_) => colour::WARN,
        Verdict::NotApplicable(_) => colour::FAINT,
    };
    Cell::styled(judged.verdict.word(), style)
}
