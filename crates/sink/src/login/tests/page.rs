//! The browser's pages: whole, friendly, and safe against whatever comes from outside.

use proptest::prelude::*;

use crate::login::page;

#[test]
fn success_names_the_account_and_says_that_the_tab_can_go() {
    let html = page::success("Desk", Some("alice@example.com"), "desk:alice@example.com");
    for part in [
        "<title>Logged in as alice@example.com</title>",
        "The login at Desk is stored as desk:alice@example.com.",
        "You can close this tab",
    ] {
        assert!(html.contains(part), "{part}: {html}");
    }
    assert!(page::success("Desk", None, "desk:default").contains("<h1>Logged in</h1>"));
}

#[test]
fn failure_gives_the_reason_and_the_next_step() {
    let html = page::failure(
        "Desk",
        "State mismatch: no",
        Some("tokensink models auth login --provider desk"),
    );
    for part in [
        "The login at Desk did not work",
        "State mismatch: no",
        "<code>tokensink models auth login --provider desk</code>",
    ] {
        assert!(html.contains(part), "{part}: {html}");
    }
    assert!(!page::failure("Desk", "x", None).contains("<code>"));
    assert!(page::stray("Not found").contains("still waiting"));
    assert!(page::superseded().contains("already completed"));
}

#[test]
fn pages_load_nothing_and_suit_both_schemes() {
    let html = page::failure("D", "r", Some("c"));
    assert!(html.starts_with("<!doctype html><html lang=\"en\">") && html.trim_end().ends_with("</html>"));
    for forbidden in ["<script", "src=", "href=", "http:", "https:", "@import", "url("] {
        assert!(!html.contains(forbidden), "{forbidden}");
    }
    assert!(html.contains("color-scheme:light dark") && html.contains("prefers-color-scheme:dark"));
}

proptest! {
    #[test]
    fn nothing_from_outside_becomes_markup(text in "\\PC{0,80}") {
        let tags = |html: &str| html.matches('<').count() + html.matches('>').count();
        let plain = page::failure("D", "r", Some("c"));
        let html = page::failure(&text, &text, Some(&text));
        prop_assert_eq!(tags(&html), tags(&plain));
    }
}

#[test]
fn markup_is_shown_as_text() {
    let html = page::failure("<b>", "<script>alert('x')</script> & \"y\"", None);
    assert!(
        html.contains("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt; &amp; &quot;y&quot;"),
        "{html}"
    );
}
