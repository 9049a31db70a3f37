//! A report as one page: no script, nothing from elsewhere, light and dark.

use tokensink_authserver::escape_html;

use crate::report::{Counts, Judged, Report, Verdict};

const STYLE: &str = "\
:root{color-scheme:light dark;--ground:#fff;--text:#1c1e21;--faint:#62676f;--line:#dcdfe4;--good:#17703a;\
--good-ground:#e3f4e8;--bad:#b3261e;--bad-ground:#fbe6e4;--warn:#8a5a00;--warn-ground:#fbf0d9;--soft:#f4f5f7}\
@media (prefers-color-scheme:dark){:root{--ground:#15171a;--text:#e7e9ec;--faint:#9aa1ab;--line:#32363c;\
--good:#7bd396;--good-ground:#15301f;--bad:#ff9d94;--bad-ground:#3a1917;--warn:#f0c36b;--warn-ground:#33270f;\
--soft:#1d2024}}\
*{box-sizing:border-box}body{font:16px/1.5 system-ui,sans-serif;margin:0;background:var(--ground);color:var(--text)}\
main{max-width:60rem;margin:0 auto;padding:2.5rem 1.25rem 4rem}h1{font-size:1.6rem;line-height:1.25;margin:0}\
p{margin:.4rem 0}.faint{color:var(--faint)}.score{font-size:2.2rem;font-weight:650;margin:1.2rem 0 .2rem}\
.bar{display:flex;height:.6rem;border-radius:.3rem;overflow:hidden;background:var(--line);margin:.6rem 0 .4rem}\
.bar i{display:block}.bar .passed{background:var(--good)}.bar .failed{background:var(--bad)}\
.bar .open{background:var(--warn)}h2{font-size:1.1rem;margin:2.4rem 0 .2rem}\
ul{list-style:none;margin:0;padding:0}li{display:grid;grid-template-columns:7.5rem 1fr;gap:.2rem 1rem;\
padding:.8rem 0;border-top:1px solid var(--line)}li>div{min-width:0}\
.tag{font-size:.8rem;font-weight:600;border-radius:1rem;padding:.1rem .6rem;justify-self:start;align-self:start;\
white-space:nowrap}.tag.passed{color:var(--good);background:var(--good-ground)}\
.tag.failed{color:var(--bad);background:var(--bad-ground)}.tag.open{color:var(--warn);background:var(--warn-ground)}\
.tag.none{color:var(--faint);background:var(--soft)}.title{font-weight:600}.seen{overflow-wrap:anywhere}\
.why{font-size:.9rem;color:var(--faint)}code{font:.86em ui-monospace,monospace;color:var(--faint);\
overflow-wrap:anywhere}@media (max-width:34rem){li{grid-template-columns:1fr}}\
@media print{li{break-inside:avoid}}";

/// The report as a page.
#[must_use]
pub fn page(report: &Report) -> String {
    let counts = report.counts();
    let name = escape_html(&format!("{} {}", report.client, report.version));
    let name = name.trim();
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width,initial-scale=1\"><title>{name}: {passed} of {all} scenarios passed</title>\
         <style>{STYLE}</style></head><body><main><h1>{name}</h1>\
         <p class=\"faint\">What it does to its login when the world goes wrong, in a strict world and with real \
         processes</p><p class=\"score\">{passed} of {all} passed</p>{bar}{rest}{failed}{others}\
         <p class=\"faint\">Made by <code>tokensink conformance run</code>, version {ours}.</p></main></body></html>\n",
        passed = counts.passed,
        all = counts.passed + counts.failed,
        bar = bar(counts),
        rest = rest(counts),
        failed = section("Failed", report, |verdict| matches!(
            verdict,
            Verdict::Failed(_) | Verdict::NotJudged(_)
        )),
        others = [
            section("Passed", report, |verdict| matches!(verdict, Verdict::Passed(_))),
            section("Not applicable", report, |verdict| matches!(
                verdict,
                Verdict::NotApplicable(_)
            )),
        ]
        .concat(),
        ours = env!("CARGO_PKG_VERSION"),
    )
}

fn bar(counts: Counts) -> String {
    let part = |class: &str, count: usize| {
        if count == 0 {
            return String::new();
        }
        format!("<i class=\"{class}\" style=\"flex:{count}\"></i>")
    };
    format!(
        "<div class=\"bar\" aria-hidden=\"true\">{}{}{}</div>",
        part("passed", counts.passed),
        part("failed", counts.failed),
        part("open", counts.not_judged),
    )
}

fn rest(counts: Counts) -> String {
    let mut parts = vec![format!("{} failed", counts.failed)];
    for (count, what) in [
        (counts.not_applicable, "not applicable"),
        (counts.not_judged, "not judged"),
    ] {
        if count > 0 {
            parts.push(format!("{count} {what}"));
        }
    }
    format!("<p class=\"faint\">{}</p>", parts.join(", "))
}

fn section(title: &str, report: &Report, belongs: fn(&Verdict) -> bool) -> String {
    let items: String = report
        .judged
        .iter()
        .filter(|judged| belongs(&judged.verdict))
        .map(item)
        .collect();
    if items.is_empty() {
        return String::new();
    }
    format!("<h2>{title}</h2><ul>{items}</ul>")
}

fn item(judged: &Judged) -> String {
    let class = match judged.verdict {
        Verdict::Passed(_) => "passed",
        Verdict::Failed(_) => "failed",
        Verdict::NotJudged(_) => "open",
        Verdict::NotApplicable(_) => "none",
    };
    let scenario = judged.scenario;
    format!(
        "<li id=\"{id}\"><span class=\"tag {class}\">{word}</span><div><div class=\"title\">{title}</div>\
         <div class=\"seen\">{seen}</div><div class=\"why\">{why} {source}.</div><code>{id}</code></div></li>",
        id = scenario.id,
        word = judged.verdict.word(),
        title = with_code(scenario.title),
        seen = escape_html(judged.verdict.detail()),
        why = with_code(scenario.why),
        source = escape_html(scenario.source),
    )
}

/// A text in which words between backquotes are code.
fn with_code(text: &str) -> String {
    let parts = text.split('`').map(escape_html).enumerate();
    parts
        .map(|(index, part)| match index % 2 {
            0 => part,
            _ => format!("<code>{part}</code>"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenarios::SCENARIOS;

    #[test]
    fn what_a_program_said_does_not_become_markup() {
        let report = Report {
            client: "<b>&".to_owned(),
            version: "1".to_owned(),
            judged: vec![
                Judged {
                    scenario: &SCENARIOS[0],
                    verdict: Verdict::Failed("it said <script>alert(\"x\")</script>".to_owned()),
                    millis: 1,
                },
                Judged {
                    scenario: &SCENARIOS[1],
                    verdict: Verdict::Passed("fine".to_owned()),
                    millis: 1,
                },
            ],
        };
        let html = page(&report);
        assert!(!html.contains("<script") && !html.contains("<b>"), "{html}");
        assert!(html.contains("1 of 2 passed"), "{html}");
        // Nothing is fetched from anywhere.
        assert!(!html.contains("http") && !html.contains("url("), "{html}");
    }
}
