//! The few pages that a person may see. Plain HTML without scripts, so that they work in any browser and in `curl`;
//! everything that comes from a request is escaped.

use tokensink_types::UnixMillis;

use crate::config::AccountConfig;
use crate::faults::{Fault, GrantType};
use crate::ledger::{Ledger, RequestRecord, RevokedBecause};
use crate::params::Params;

/// `text` with the characters that mean something in HTML replaced, for text between tags and in quoted attributes.
#[must_use]
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            _ => out.push(c),
        }
    }
    out
}

fn page(title: &str, body: &str) -> String {
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\"><title>{title}</title><style>body{{font:1rem system-ui;max-width:30rem;\
         margin:4rem auto;padding:0 1rem}}button,input{{font:inherit;padding:.6rem 1rem;margin:.3rem 0;width:100%;\
         box-sizing:border-box}}small{{color:#666}}</style></head><body><h1>{title}</h1>{body}\
         <p><small>A test server. Its accounts and tokens are made up.</small></p></body></html>",
        title = escape(title)
    )
}

/// A page that says one thing.
pub(crate) fn message(title: &str, text: &str) -> String {
    page(title, &format!("<p>{}</p>", escape(text)))
}

/// Asks who signs in; the form carries the authorization request along.
pub(crate) fn sign_in(path: &str, params: &Params, accounts: &[AccountConfig]) -> String {
    let hidden: String = params
        .iter()
        .filter(|(name, _)| !matches!(*name, "account" | "decision"))
        .map(|(name, value)| hidden(name, value.expose()))
        .collect();
    let client = escape(params.text("client_id").unwrap_or("A client"));
    page(
        "Sign in",
        &format!(
            "<p><b>{client}</b> asks for access.</p><form method=\"post\" action=\"{path}\">{hidden}{accounts}\
             <button name=\"decision\" value=\"deny\">Do not allow</button></form>",
            path = escape(path),
            accounts = buttons(accounts),
        ),
    )
}

/// Asks for the user code of a device and who signs in (RFC 8628 section 3.3).
pub(crate) fn verification(path: &str, user_code: &str, accounts: &[AccountConfig]) -> String {
    page(
        "Sign in on a device",
        &format!(
            "<form method=\"post\" action=\"{path}\"><label>The code shown by the device<input name=\"user_code\" \
             value=\"{code}\" autocomplete=\"off\" required></label>{accounts}\
             <button name=\"decision\" value=\"deny\">Do not allow</button></form>",
            path = escape(path),
            code = escape(user_code),
            accounts = buttons(accounts),
        ),
    )
}

fn hidden(name: &str, value: &str) -> String {
    format!(
        "<input type=\"hidden\" name=\"{}\" value=\"{}\">",
        escape(name),
        escape(value)
    )
}

fn buttons(accounts: &[AccountConfig]) -> String {
    accounts
        .iter()
        .map(|account| {
            format!(
                "<button name=\"account\" value=\"{}\">Sign in as {}</button>",
                escape(&account.sub),
                escape(account.email.as_deref().unwrap_or(&account.sub))
            )
        })
        .collect()
}

/// The books of the server, for people who test a program by hand. Brings itself up to date.
pub(crate) fn books(issuer: &str, ledger: &Ledger, faults: &[Fault], now: UnixMillis) -> String {
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta http-equiv=\"refresh\" content=\"3\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>Test server</title><style>{BOOKS_STYLE}</style>\
         </head><body><h1>Test server</h1><p>{issuer}. Its accounts and tokens are made up; tokens are shown as \
         fingerprints.</p><p>{refreshes} refreshes granted, {replays} answers repeated, {reuses} spent tokens sent \
         again, {revoked} logins ended, {played} faults played</p>{logins}{faults}{requests}</body></html>",
        issuer = escape(issuer),
        refreshes = ledger.refreshes,
        replays = ledger.replays,
        reuses = ledger.reuses,
        revoked = ledger.revocations,
        played = ledger.faults,
        logins = logins(ledger),
        faults = to_come(faults),
        requests = requests(ledger, now),
    )
}

fn logins(ledger: &Ledger) -> String {
    const HEAD: [&str; 8] = [
        "",
        "account",
        "client",
        "refreshes",
        "repeated",
        "reused",
        "refresh token",
        "state",
    ];
    let families = ledger.families.iter().enumerate();
    let rows: String = families
        .map(|(number, family)| {
            row(&[
                &(number + 1).to_string(),
                &family.account,
                &family.client_id,
                &family.refreshes.to_string(),
                &family.replays.to_string(),
                &family.reuses.to_string(),
                &family.current,
                family.revoked.map_or("alive", RevokedBecause::in_words),
            ])
        })
        .collect();
    table("Logins", &HEAD, &rows)
}

fn to_come(faults: &[Fault]) -> String {
    let rows: String = faults
        .iter()
        .map(|fault| {
            row(&[
                &fault.action.to_string(),
                fault.grant.map_or("any request", GrantType::as_str),
                &fault.nth.to_string(),
                &fault.times.to_string(),
            ])
        })
        .collect();
    table("Faults to come", &["fault", "hits", "at the nth", "times"], &rows)
}

fn requests(ledger: &Ledger, now: UnixMillis) -> String {
    const HEAD: [&str; 8] = [
        "ago", "request", "grant", "token", "status", "outcome", "fault", "program",
    ];
    let newest = ledger.requests.iter().rev().take(SHOWN);
    let rows: String = newest.map(|request| asked(request, now)).collect();
    table("Requests, the newest first", &HEAD, &rows)
}

/// Most requests on the page.
const SHOWN: usize = 100;

const BOOKS_STYLE: &str = "\
:root{color-scheme:light dark}body{font:.95rem/1.45 system-ui;max-width:72rem;margin:2rem auto;padding:0 1rem}\
h2{font-size:1.05rem;margin:1.6rem 0 .3rem}table{border-collapse:collapse;width:100%;font-size:.9rem}\
div{overflow-x:auto}th,td{text-align:left;padding:.25rem .8rem .25rem 0;border-bottom:1px solid #8884;\
white-space:nowrap}th{font-weight:500;opacity:.7}";

fn table(title: &str, header: &[&str], rows: &str) -> String {
    if rows.is_empty() {
        return format!("<h2>{title}</h2><p>None.</p>");
    }
    let header: String = header.iter().map(|name| format!("<th>{name}</th>")).collect();
    format!("<h2>{title}</h2><div><table><tr>{header}</tr>{rows}</table></div>")
}

fn row(cells: &[&str]) -> String {
    let cells: String = cells
        .iter()
        .map(|cell| format!("<td>{}</td>", escape(cell)))
        .collect();
    format!("<tr>{cells}</tr>")
}

fn asked(request: &RequestRecord, now: UnixMillis) -> String {
    let ago = now.0.saturating_sub(request.at) / 1000;
    row(&[
        &format!("{ago} s"),
        &format!("{} {}", request.method, request.path),
        request.grant.map_or("", GrantType::as_str),
        request.key.as_deref().unwrap_or_default(),
        &request
            .status
            .map_or_else(|| "none".to_owned(), |status| status.to_string()),
        &request.outcome,
        request.fault.as_deref().unwrap_or_default(),
        request.user_agent.as_deref().unwrap_or_default(),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_from_outside_becomes_markup() {
        let html = message("<b>", "a'b\"<script>&");
        assert!(html.contains("<h1>&lt;b&gt;</h1>"));
        assert!(html.contains("<p>a&#39;b&quot;&lt;script&gt;&amp;</p>"));
        let html = verification("/approve", "\"><x>", &[AccountConfig::named("<i>")]);
        assert!(!html.contains("<x>") && !html.contains("<i>"), "{html}");
        let request = RequestRecord {
            at: 0,
            method: "POST".to_owned(),
            path: "/<u>".to_owned(),
            endpoint: crate::faults::Endpoint::Unknown,
            grant: Some(GrantType::RefreshToken),
            client_id: None,
            content_type: None,
            user_agent: Some("<s>".to_owned()),
            key: None,
            status: None,
            outcome: "reuse".to_owned(),
            fault: None,
        };
        let ledger = Ledger {
            requests: [request].into(),
            ..Ledger::default()
        };
        let html = books("http://127.0.0.1:9", &ledger, &[], UnixMillis(5_000));
        assert!(
            html.contains("<td>5 s</td>") && html.contains("refresh_token"),
            "{html}"
        );
        assert!(!html.contains("<u>") && !html.contains("<s>"), "{html}");
    }
}
