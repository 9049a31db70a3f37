//! What was counted, and what must be true of it.

use serde_json::{Value, json};
use tokensink_authserver::{GrantType, Ledger};

/// The counts of one demo.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Processes that were started.
    pub(super) processes: u64,
    /// Those that were ended by SIGKILL, and whose end said so.
    pub(super) killed: u64,
    /// Those that ended with "try again later" while the network was cut, as they should.
    pub(super) put_off: u64,
    /// Printed tokens that the API took.
    pub(super) tokens: u64,
    /// Times that the API refused a token that it had taken before its end.
    pub(super) expiries: u64,
    /// Refreshes that the server granted, by its books.
    pub(super) refreshes: u64,
    /// Refresh requests that reached the server, by its books.
    pub(super) refresh_requests: u64,
    /// Spent refresh tokens that came again, by its books.
    pub(super) reuses: u64,
    /// Logins that the server ended, by its books.
    pub(super) revocations: u64,
}

impl Tally {
    /// The same with what the server's books say.
    pub(super) fn with(self, ledger: &Ledger) -> Self {
        Self {
            refreshes: ledger.refreshes,
            refresh_requests: ledger.posts(GrantType::RefreshToken),
            reuses: ledger.reuses,
            revocations: ledger.revocations,
            ..self
        }
    }

    /// What is not as promised, in sentences; empty when all is well. Of a story that broke off, `finished` is false:
    /// an expiry may then still wait for its refresh.
    pub(super) fn problems(&self, finished: bool) -> Vec<String> {
        let Self {
            expiries,
            refreshes,
            refresh_requests,
            reuses,
            revocations,
            ..
        } = *self;
        let mut problems = Vec::new();
        if finished && refreshes != expiries {
            problems.push(format!(
                "{expiries} expiries, but {refreshes} refreshes; there should be one for each"
            ));
        }
        if finished && refresh_requests != refreshes {
            problems.push(format!(
                "{refresh_requests} refresh requests reached the server, which granted {refreshes}"
            ));
        }
        if reuses != 0 {
            problems.push(format!(
                "refresh tokens that were sent again after they were spent: {reuses}"
            ));
        }
        if revocations != 0 {
            problems.push(format!("logins that the server ended: {revocations}"));
        }
        problems
    }

    /// The counts as an object.
    pub(super) fn json(&self) -> Value {
        json!({
            "processes": self.processes,
            "killed": self.killed,
            "putOff": self.put_off,
            "tokensChecked": self.tokens,
            "expiries": self.expiries,
            "refreshes": self.refreshes,
            "refreshRequests": self.refresh_requests,
            "reuses": self.reuses,
            "revocations": self.revocations,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_not_as_promised_is_said() {
        let good = Tally {
            processes: 9,
            expiries: 5,
            refreshes: 5,
            refresh_requests: 5,
            ..Tally::default()
        };
        assert!(good.problems(true).is_empty());
        let cases = [
            (Tally { expiries: 4, ..good }, "4 expiries, but 5 refreshes"),
            (
                Tally {
                    refresh_requests: 6,
                    ..good
                },
                "6 refresh requests",
            ),
            (Tally { reuses: 1, ..good }, "after they were spent: 1"),
            (
                Tally {
                    revocations: 2,
                    ..good
                },
                "the server ended: 2",
            ),
        ];
        for (tally, want) in cases {
            let problems = tally.problems(true);
            assert_eq!(problems.len(), 1, "{problems:?}");
            assert!(problems[0].contains(want), "{problems:?}");
        }
    }

    #[test]
    fn the_servers_books_count() {
        let ledger = Ledger {
            token_posts: [("refresh_token".to_owned(), 3), ("device_code".to_owned(), 7)].into(),
            refreshes: 2,
            reuses: 1,
            revocations: 1,
            ..Ledger::default()
        };
        let tally = Tally {
            expiries: 2,
            ..Tally::default()
        }
        .with(&ledger);
        assert_eq!(tally.problems(true).len(), 3);
        assert_eq!(tally.problems(false).len(), 2, "reuse and its end");
        assert_eq!(tally.json()["refreshRequests"], 3);
        assert_eq!(tally.json()["expiries"], 2);
    }
}
