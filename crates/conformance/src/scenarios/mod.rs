//! The catalogue. A scenario says what happens, why it matters and where the rule stands; how it is played is one
//! function on a [`Stage`].

mod answers;
mod crashes;
mod network;
mod ordinary;
mod refusals;
mod store;
mod time;

use tokensink_authserver::ServerConfig;

use crate::report::Verdict;
use crate::stage::Stage;
use crate::world::Trouble;

/// Seconds in which a server with leeway repeats its answer to a repeated refresh. Long enough for a program that waits
/// for its dead predecessor's lock.
const GRACE_SECONDS: u64 = 300;

/// One thing that happens to programs with a login.
#[derive(Debug)]
pub struct Scenario {
    /// Its name on the command line.
    pub id: &'static str,
    /// What happens, and what is right.
    pub title: &'static str,
    /// What it costs where a program does otherwise.
    pub why: &'static str,
    /// Where the rule stands.
    pub source: &'static str,
    /// In what its authorization server differs from the strictest.
    pub(crate) server: fn(&mut ServerConfig),
    /// Plays it.
    pub(crate) play: fn(&mut Stage<'_>) -> Result<Verdict, Trouble>,
}

/// The strictest server: every refresh rotates, a spent token that comes again ends the login.
fn strict(_: &mut ServerConfig) {}

/// A server that repeats its answer for a while.
fn with_grace(config: &mut ServerConfig) {
    config.replay_grace_seconds = GRACE_SECONDS;
}

/// A server that refuses a spent token and leaves it at that.
fn without_revocation(config: &mut ServerConfig) {
    config.reuse_detection = false;
}

/// All scenarios, in the order in which they are told.
pub static SCENARIOS: [Scenario; 41] = [
    Scenario {
        id: "fresh-token-is-kept",
        title: "A token that still lives is used as it is, without a refresh",
        why: "Every refresh spends the token that the other users of the login hold.",
        source: "RFC 6749 section 1.5",
        server: strict,
        play: ordinary::fresh,
    },
    Scenario {
        id: "expired-token-is-refreshed-once",
        title: "A token that has run out is refreshed once, and the new refresh token is stored",
        why: "A rotated token that is not stored is a lost login.",
        source: "RFC 6749 section 6",
        server: strict,
        play: ordinary::expired,
    },
    Scenario {
        id: "many-processes-one-refresh",
        title: "Processes that start at the same moment spend the refresh token once",
        why: "The second use of a refresh token ends the login for all of them.",
        source: "RFC 9700 section 4.14",
        server: strict,
        play: ordinary::many,
    },
    Scenario {
        id: "two-agents-one-login",
        title: "Two agents with a copy of the same login spend the refresh token once",
        why: "Copies look like two logins and are one: the slower one ends it for both.",
        source: "RFC 9700 section 4.14",
        server: strict,
        play: ordinary::two_agents,
    },
    Scenario {
        id: "answer-without-refresh-token",
        title: "An answer without a refresh token leaves the old one stored",
        why: "It is still good; a program that stores nothing in its place is logged out.",
        source: "RFC 6749 section 6",
        server: strict,
        play: ordinary::without_refresh_token,
    },
    Scenario {
        id: "answer-without-expires-in",
        title: "An answer without a life is stored and used",
        why: "`expires_in` is only recommended; some providers leave it out.",
        source: "RFC 6749 section 5.1",
        server: strict,
        play: ordinary::without_expires_in,
    },
    Scenario {
        id: "rejected-token-is-refreshed-once",
        title: "A token that the API rejects before its time is refreshed once, and the call repeated",
        why: "Servers end tokens early; nobody should have to log in for it.",
        source: "RFC 6750 section 3.1",
        server: strict,
        play: ordinary::rejected,
    },
    Scenario {
        id: "api-that-rejects-everything",
        title: "An API that rejects every token costs one refresh, not a series",
        why: "A fault of the API must not burn through the chain of refresh tokens.",
        source: "RFC 6750 section 3.1",
        server: strict,
        play: ordinary::rejects_everything,
    },
    Scenario {
        id: "status-401-without-oauth-error",
        title: "A bare 401 of the token endpoint does not end the login",
        why: "Only an OAuth error says that a grant is gone; proxies answer 401 too.",
        source: "RFC 6749 section 5.2",
        server: strict,
        play: answers::status::<401>,
    },
    Scenario {
        id: "status-403-from-a-firewall",
        title: "A 403 page does not end the login",
        why: "Firewalls and bot checks answer it in the server's place.",
        source: "RFC 6749 section 5.2",
        server: strict,
        play: answers::status::<403>,
    },
    Scenario {
        id: "status-429-retry-after",
        title: "A server that asks for time gets it, and the login lives on",
        why: "Who asks again at once is locked out for longer.",
        source: "RFC 9110 section 10.2.3",
        server: strict,
        play: answers::retry_after,
    },
    Scenario {
        id: "status-500",
        title: "A server's error does not end the login",
        why: "It passes; a login does not come back by itself.",
        source: "RFC 9110 section 15.6",
        server: strict,
        play: answers::status::<500>,
    },
    Scenario {
        id: "status-502",
        title: "A gateway's error does not end the login",
        why: "It passes; a login does not come back by itself.",
        source: "RFC 9110 section 15.6",
        server: strict,
        play: answers::status::<502>,
    },
    Scenario {
        id: "status-503",
        title: "A server that is away does not end the login",
        why: "It passes; a login does not come back by itself.",
        source: "RFC 9110 section 15.6",
        server: strict,
        play: answers::status::<503>,
    },
    Scenario {
        id: "status-504",
        title: "A gateway that waited in vain does not end the login",
        why: "It passes; a login does not come back by itself.",
        source: "RFC 9110 section 15.6",
        server: strict,
        play: answers::status::<504>,
    },
    Scenario {
        id: "page-instead-of-tokens",
        title: "A page with status 200 is no token answer, and the login lives on",
        why: "Captive portals and maintenance pages answer like that.",
        source: "RFC 6749 section 5.1",
        server: strict,
        play: answers::page,
    },
    Scenario {
        id: "empty-answer",
        title: "An empty answer with status 200 leaves the stored login as it is",
        why: "A program that stores what it did not get is logged out.",
        source: "RFC 6749 section 5.1",
        server: strict,
        play: answers::empty,
    },
    Scenario {
        id: "answer-without-tokens",
        title: "A JSON answer without tokens leaves the stored login as it is",
        why: "A program that stores what it did not get is logged out.",
        source: "RFC 6749 section 5.1",
        server: strict,
        play: answers::no_tokens,
    },
    Scenario {
        id: "answer-cut-short",
        title: "An answer that breaks off: a server with leeway gives it again",
        why: "The token is spent and its successor did not arrive; asking again at once saves it.",
        source: "RFC 9700 section 4.14.2",
        server: with_grace,
        play: answers::cut_short,
    },
    Scenario {
        id: "answer-of-another-account",
        title: "Tokens of another account are not used in this one's place",
        why: "Somebody's conversations would go through somebody else's account.",
        source: "OpenID Connect Core section 12.2",
        server: strict,
        play: answers::another_account,
    },
    Scenario {
        id: "redirect-is-not-followed",
        title: "A token endpoint that redirects does not get the refresh token sent elsewhere",
        why: "Whoever makes the endpoint redirect would be given the login.",
        source: "RFC 9700 section 4.12",
        server: strict,
        play: answers::redirect,
    },
    Scenario {
        id: "invalid-grant-asks-for-a-login",
        title: "`invalid_grant` is told as a login that is needed, and the stored secrets stay",
        why: "Without a clear word nobody knows what to do; without the secrets nobody can find out what happened.",
        source: "RFC 6749 section 5.2",
        server: strict,
        play: refusals::invalid_grant,
    },
    Scenario {
        id: "invalid-grant-is-believed",
        title: "After `invalid_grant` the dead token is not sent again",
        why: "It cannot come back to life, and servers lock out who goes on trying.",
        source: "RFC 6749 section 5.2",
        server: strict,
        play: refusals::not_again,
    },
    Scenario {
        id: "refused-while-a-newer-login-is-stored",
        title: "A refusal counts only after the store was read again",
        why: "Another program may have refreshed in the meantime; its login is good.",
        source: "RFC 9700 section 4.14",
        server: without_revocation,
        play: refusals::lost_race,
    },
    Scenario {
        id: "newer-login-is-adopted",
        title: "A login that another program renewed is used, and the old token is not sent",
        why: "Sending it would end the login that the other program saved.",
        source: "RFC 9700 section 4.14",
        server: strict,
        play: refusals::adopted,
    },
    Scenario {
        id: "connection-refused",
        title: "Nobody listens at the token endpoint: the login is there when it is back",
        why: "A server that restarts must not cost a login.",
        source: "RFC 6749 section 6",
        server: strict,
        play: network::refused,
    },
    Scenario {
        id: "name-does-not-resolve",
        title: "The name of the token endpoint does not resolve: the login is there when it does",
        why: "A laptop that wakes up has no DNS for a moment.",
        source: "RFC 6749 section 6",
        server: strict,
        play: network::no_name,
    },
    Scenario {
        id: "tls-fails",
        title: "TLS fails: the login is there when it works again",
        why: "A wrong clock or a company's proxy must not cost a login.",
        source: "RFC 6749 section 3.2",
        server: strict,
        play: network::no_tls,
    },
    Scenario {
        id: "cut-before-the-server-acted",
        title: "The connection breaks before the server acted: the login works afterwards",
        why: "Nothing was spent, but the program cannot know it.",
        source: "RFC 9110 section 9.2.2",
        server: strict,
        play: network::cut_before,
    },
    Scenario {
        id: "answer-lost",
        title: "The server acted and its answer is lost: a server with leeway gives it again",
        why: "The commonest way to lose a login: the network fails at the wrong moment.",
        source: "RFC 9700 section 4.14.2",
        server: with_grace,
        play: network::answer_lost,
    },
    Scenario {
        id: "slow-answer-blocks-nobody",
        title: "While a refresh takes its time, the old token serves as long as it lives",
        why: "A slow server must not stop what has a good token.",
        source: "RFC 6749 section 1.5",
        server: strict,
        play: network::slow,
    },
    Scenario {
        id: "killed-during-the-request",
        title: "Killed while the request is under way: a server with leeway gives the answer again",
        why: "Power cuts, OOM killers and Ctrl-C do not wait for answers.",
        source: "RFC 9700 section 4.14.2",
        server: with_grace,
        play: crashes::during_the_request,
    },
    Scenario {
        id: "killed-at-any-moment",
        title: "Killed at moments all over a refresh, again and again: the login lives on",
        why: "Between the answer and the store lies the only copy of the new token.",
        source: "RFC 9700 section 4.14.2",
        server: with_grace,
        play: crashes::at_any_moment,
    },
    Scenario {
        id: "unknown-keys-survive",
        title: "What somebody else wrote into the store survives a refresh",
        why: "Versions differ and tools share files; what is dropped is lost to the others.",
        source: "RFC 7493 section 4.2",
        server: strict,
        play: store::unknown_keys,
    },
    Scenario {
        id: "store-stays-private",
        title: "After a refresh only its owner can read the store",
        why: "A refresh token in a readable file belongs to everybody on the host.",
        source: "RFC 6819 section 5.3.3",
        server: strict,
        play: store::private,
    },
    Scenario {
        id: "full-disk",
        title: "The disk is full during a refresh: the login works when there is room again",
        why: "A rotated token that cannot be stored is lost, unless that was known before.",
        source: "RFC 9700 section 4.14",
        server: strict,
        play: store::full_disk,
    },
    Scenario {
        id: "broken-store-is-not-written-over",
        title: "A store that cannot be read is not written over",
        why: "Half a file can be mended; an empty one cannot.",
        source: "RFC 6819 section 5.3.3",
        server: strict,
        play: store::broken,
    },
    Scenario {
        id: "no-secret-is-told",
        title: "No token stands in what the program prints, not even where the server's error quotes it",
        why: "Output ends in logs, issues and screenshots.",
        source: "RFC 6819 section 5.3.3",
        server: strict,
        play: store::no_secret,
    },
    Scenario {
        id: "clock-an-hour-behind",
        title: "The host's clock is an hour behind: the rejected token is refreshed once",
        why: "The token looks alive here and is dead there.",
        source: "RFC 6750 section 3.1",
        server: strict,
        play: time::behind,
    },
    Scenario {
        id: "clock-an-hour-ahead",
        title: "The host's clock is an hour ahead: new tokens that look dead do not cause a refresh at each use",
        why: "Each needless refresh is a chance to lose the login.",
        source: "RFC 6749 section 5.1",
        server: strict,
        play: time::ahead,
    },
    Scenario {
        id: "renewed-ahead-of-time",
        title: "A token that is about to run out is renewed by the program's timer, once",
        why: "A login that nobody uses dies of its idle limit.",
        source: "RFC 9700 section 4.14.2",
        server: strict,
        play: time::renewed_ahead,
    },
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn ids_are_words_and_nobody_has_the_same() {
        let mut seen = BTreeSet::new();
        for scenario in &SCENARIOS {
            assert!(seen.insert(scenario.id), "{} is there twice", scenario.id);
            let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            assert!(scenario.id.chars().all(is_word), "{}", scenario.id);
            for text in [scenario.title, scenario.why, scenario.source] {
                assert!(!text.trim().is_empty(), "{}", scenario.id);
            }
        }
    }

    #[test]
    fn every_scenario_stands_in_the_docs() {
        let page = include_str!("../../../../docs/conformance.md");
        for scenario in &SCENARIOS {
            let row = format!("| `{}` | {} | {} |", scenario.id, scenario.title, scenario.source);
            assert!(page.contains(&row), "docs/conformance.md lacks: {row}");
        }
    }
}
