//! The few pages that a person may see. Plain HTML without scripts, so that they work in any browser and in `curl`;
//! everything that comes from a request is escaped.

use crate::config::AccountConfig;
use crate::params::Params;

/// `text` with the characters that mean something in HTML replaced.
fn escape(text: &str) -> String {
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
    }
}
