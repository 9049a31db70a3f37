//! What comes after a call that did not succeed: the same profile with a fresh token, another one, or the end.
//!
//! Another try is made only where the first cannot have been billed and cannot have changed anything: no connection,
//! or a refusal that was received whole (401, 402, 403, 429 or 5xx) before any of an answer went to the client. After
//! a time-out or a cut nobody knows what the server did, so the client is told. Refusals that are the request's own
//! fault are passed on, because every other account would say the same; that one key lacks a scope is not the request's.
//!
//! Which profile is next, and whether there is one, is [`crate::select()`]'s matter. A request that is bound to one
//! account must not be given to another; its caller takes [`Step::TryAnother`] for the end.

use crate::classify::{Blame, Class, Reason};

/// How many tries a request has, over all profiles and with repetitions after a refresh: one per profile and a fresh
/// token for each of them, for as many accounts as people have, and an end for those who have a thousand.
pub const TRIES_MAX: u32 = 16;

/// What happened to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happened {
    /// No connection came about, so that no byte of the request was sent.
    NotConnected,
    /// An answer was received.
    Answered {
        /// Its status.
        status: u16,
        /// What it means.
        class: Class,
    },
    /// No answer came in time.
    TimedOut,
    /// The connection broke after the request was sent, in whole or in part.
    CutOff,
}

/// What was done so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempted {
    /// The head of an answer went to the client.
    pub head_sent: bool,
    /// The request can be sent again: its body is still held, or there is none.
    pub replayable: bool,
    /// The profile's token was replaced by a fresh one for this request already, or cannot be.
    pub refreshed: bool,
    /// How often the request was sent before this call, to whatever profile.
    pub tries: u32,
}

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The same profile once more, with a token that replaces the one that was refused.
    RefreshAndRepeat,
    /// Another profile, if there is one; else the answer is passed on.
    TryAnother,
    /// The client gets what happened.
    PassOn,
}

/// What comes after a call.
#[must_use]
pub fn next(happened: &Happened, attempted: &Attempted) -> Step {
    let Attempted {
        head_sent,
        replayable,
        refreshed,
        tries,
    } = *attempted;
    if head_sent || !replayable || tries.saturating_add(1) >= TRIES_MAX {
        return Step::PassOn;
    }
    match *happened {
        Happened::NotConnected => Step::TryAnother,
        Happened::TimedOut | Happened::CutOff => Step::PassOn,
        Happened::Answered { status, class } => after_answer(status, class.reason, refreshed),
    }
}

fn after_answer(status: u16, reason: Reason, refreshed: bool) -> Step {
    if !matches!(status, 401 | 402 | 403 | 429 | 500..=599) || reason.blame() == Blame::Request {
        return Step::PassOn;
    }
    // A fresh token helps where the old one was not taken; not where the account is out of money or switched off.
    let token = matches!(
        reason,
        Reason::Auth | Reason::NoErrorDetails | Reason::Unclassified
    );
    if status == 401 && token && !refreshed {
        return Step::RefreshAndRepeat;
    }
    Step::TryAnother
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Attempted = Attempted {
        head_sent: false,
        replayable: true,
        refreshed: false,
        tries: 0,
    };

    fn answered(status: u16, reason: Reason) -> Happened {
        let class = Class { reason, rule: "test" };
        Happened::Answered { status, class }
    }

    fn everything_that_happens() -> Vec<Happened> {
        let mut all = vec![Happened::NotConnected, Happened::TimedOut, Happened::CutOff];
        for status in 100..=600 {
            all.extend(Reason::ALL.map(|reason| answered(status, reason)));
        }
        all
    }

    /// What is decided for the first try of each status and reason, by a table that is written down independently:
    /// R refreshes, A tries another, - passes on. The columns are the reasons in the order of `Reason::ALL`.
    #[test]
    fn every_status_and_reason() {
        //           auth perm bill rate over time model sess ctx form ref notper nodet uncl
        let table = [
            (401, "R A A A A A A - - - - A R R"),
            (402, "A A A A A A A - - - - A A A"),
            (403, "A A A A A A A - - - - A A A"),
            (429, "A A A A A A A - - - - A A A"),
            (500, "A A A A A A A - - - - A A A"),
            (503, "A A A A A A A - - - - A A A"),
            (529, "A A A A A A A - - - - A A A"),
            (599, "A A A A A A A - - - - A A A"),
        ];
        let refused = |status: u16| match status {
            500..=599 => Some(table[4].1),
            _ => table.iter().find(|(row, _)| *row == status).map(|(_, row)| *row),
        };
        for status in 100..=600 {
            let row = refused(status).unwrap_or("- - - - - - - - - - - - - -");
            for (reason, want) in Reason::ALL.into_iter().zip(row.split(' ')) {
                let got = match next(&answered(status, reason), &FIRST) {
                    Step::RefreshAndRepeat => "R",
                    Step::TryAnother => "A",
                    Step::PassOn => "-",
                };
                assert_eq!(got, want, "{status} {reason:?}");
            }
        }
        assert_eq!(next(&Happened::NotConnected, &FIRST), Step::TryAnother);
        assert_eq!(next(&Happened::TimedOut, &FIRST), Step::PassOn);
        assert_eq!(next(&Happened::CutOff, &FIRST), Step::PassOn);
    }

    #[test]
    fn nothing_is_sent_again_once_it_may_not_be() {
        let ends = [
            Attempted {
                head_sent: true,
                ..FIRST
            },
            Attempted {
                replayable: false,
                ..FIRST
            },
            Attempted {
                tries: TRIES_MAX - 1,
                ..FIRST
            },
            Attempted {
                tries: u32::MAX,
                ..FIRST
            },
        ];
        for happened in everything_that_happens() {
            for attempted in ends {
                assert_eq!(
                    next(&happened, &attempted),
                    Step::PassOn,
                    "{happened:?} {attempted:?}"
                );
            }
        }
    }

    #[test]
    fn a_token_is_replaced_once_per_profile() {
        let refreshed = Attempted {
            refreshed: true,
            ..FIRST
        };
        for happened in everything_that_happens() {
            let (first, second) = (next(&happened, &FIRST), next(&happened, &refreshed));
            assert_ne!(second, Step::RefreshAndRepeat, "{happened:?}");
            let want = match first {
                Step::RefreshAndRepeat => Step::TryAnother,
                other => other,
            };
            assert_eq!(second, want, "{happened:?}");
        }
    }

    /// Whatever the upstreams answer, a request is sent a bounded number of times.
    #[test]
    fn every_request_comes_to_an_end() {
        for happened in everything_that_happens() {
            let mut attempted = FIRST;
            let mut sent = 1;
            loop {
                match next(&happened, &attempted) {
                    Step::PassOn => break,
                    Step::RefreshAndRepeat => attempted.refreshed = true,
                    Step::TryAnother => attempted.refreshed = false,
                }
                attempted.tries += 1;
                sent += 1;
            }
            assert!(sent <= TRIES_MAX, "{happened:?}");
        }
    }
}
