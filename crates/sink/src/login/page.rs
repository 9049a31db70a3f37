//! The pages that the browser shows when it comes back from the provider.
//!
//! Finished pages: no script, nothing loaded from anywhere, readable in light and dark, and everything that came from
//! outside is escaped. They never hold a code or a token.

use std::fmt::Write as _;

/// What a page says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Page<'a> {
    /// The kind of sign above it.
    pub(crate) mark: Mark,
    /// One line.
    pub(crate) title: &'a str,
    /// Sentences below it.
    pub(crate) lines: &'a [&'a str],
    /// A command to type, if one helps.
    pub(crate) command: Option<&'a str>,
}

/// The sign above a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    /// It worked.
    Done,
    /// It did not.
    Failed,
}

/// The login was made and stored.
pub(crate) fn success(provider: &str, account: Option<&str>, profile: &str) -> String {
    let title = match account {
        Some(account) => format!("Logged in as {account}"),
        None => "Logged in".to_owned(),
    };
    let kept = format!("The login at {provider} is stored as {profile}.");
    render(&Page {
        mark: Mark::Done,
        title: &title,
        lines: &[&kept, "You can close this tab and return to the terminal."],
        command: None,
    })
}

/// The login failed after the provider sent the browser back.
pub(crate) fn failure(provider: &str, reason: &str, fix: Option<&str>) -> String {
    let title = format!("The login at {provider} did not work");
    let mut lines = vec![reason];
    lines.push(match fix {
        Some(_) => "You can close this tab. Next step:",
        None => "You can close this tab and return to the terminal.",
    });
    render(&Page {
        mark: Mark::Failed,
        title: &title,
        lines: &lines,
        command: fix,
    })
}

/// A request that does not end the wait.
pub(crate) fn stray(reason: &str) -> String {
    render(&Page {
        mark: Mark::Failed,
        title: "This is not the answer that is awaited",
        lines: &[reason, "The login in the terminal is still waiting."],
        command: None,
    })
}

/// The answer came too late: the login was completed in another way.
pub(crate) fn superseded() -> String {
    render(&Page {
        mark: Mark::Done,
        title: "This login was already completed",
        lines: &["You can close this tab and return to the terminal."],
        command: None,
    })
}

const STYLE: &str = ":root{color-scheme:light dark}*{box-sizing:border-box}\
body{margin:0;min-height:100vh;display:grid;place-items:center;padding:1.5rem;background:#f4f5f7;color:#1c2024;\
font:16px/1.55 system-ui,-apple-system,'Segoe UI',Roboto,sans-serif}\
main{width:100%;max-width:30rem;padding:2.5rem 2rem;border-radius:1rem;background:#fff;\
box-shadow:0 1px 2px #0001,0 8px 30px #0000000f;text-align:center;overflow-wrap:anywhere}\
svg{width:3.5rem;height:3.5rem}h1{margin:1rem 0 .5rem;font-size:1.35rem;line-height:1.3;text-wrap:balance}\
p{margin:.5rem 0 0;color:#5a626b;text-wrap:balance}\
code{display:block;margin-top:.75rem;padding:.6rem .8rem;border-radius:.5rem;background:#eef0f3;color:#1c2024;\
font:.85rem/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;text-align:left}\
footer{margin-top:1.75rem;font-size:.8rem;color:#68717a}\
@media(prefers-color-scheme:dark){body{background:#14171a;color:#e8eaed}main{background:#1e2226;box-shadow:none}\
p{color:#a4acb5}code{background:#2a2f35;color:#e8eaed}footer{color:#959da6}}";

fn render(page: &Page<'_>) -> String {
    let (colour, path) = match page.mark {
        Mark::Done => ("#2a9d5c", "M16 25.5l6 6 11-13"),
        Mark::Failed => ("#c8453b", "M18 18l12 12M30 18l-12 12"),
    };
    let title = escaped(page.title);
    let mut body = format!(
        "<svg viewBox=\"0 0 48 48\" fill=\"none\" stroke=\"#fff\" stroke-width=\"3.5\" stroke-linecap=\"round\" \
         stroke-linejoin=\"round\" aria-hidden=\"true\"><circle cx=\"24\" cy=\"24\" r=\"22\" fill=\"{colour}\" \
         stroke=\"none\"/><path d=\"{path}\"/></svg><h1>{title}</h1>"
    );
    for line in page.lines {
        // Writing to a String cannot fail.
        let _ = write!(body, "<p>{}</p>", escaped(line));
    }
    if let Some(command) = page.command {
        let _ = write!(body, "<code>{}</code>", escaped(command));
    }
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <title>{title}</title><style>{STYLE}</style></head>\
         <body><main>{body}<footer>tokensink on this machine</footer></main></body></html>\n"
    )
}

/// Text as HTML text or attribute value.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c if c.is_control() => safe.push(' '),
            c => safe.push(c),
        }
    }
    safe
}
