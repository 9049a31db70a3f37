//! How one profile's state looks: the same words and colours in every list.

use anstyle::Style;
use tokensink_sink::{Bench, Benched, CredentialKind, ProfileState, Reading, short_remaining};
use tokensink_types::UnixMillis;

use super::table::Cell;
use super::{Look, colour, words};

/// What is to be shown of one profile.
pub(crate) struct Shown<'a> {
    pub(crate) kind: CredentialKind,
    pub(crate) state: &'a ProfileState,
    pub(crate) expires: Option<UnixMillis>,
    pub(crate) bench: Option<&'a Bench>,
    pub(crate) now: UnixMillis,
    pub(crate) absolute: bool,
}

/// The state in one or two words.
pub(crate) fn state_cell(state: &ProfileState) -> Cell {
    Cell::styled(state_words(state), state_style(state))
}

fn state_words(state: &ProfileState) -> &'static str {
    match state {
        ProfileState::LoginNeeded { .. } => "login needed",
        ProfileState::UnresolvedRef { .. } => "unresolved ref",
        ProfileState::Usable
        | ProfileState::Expiring
        | ProfileState::Refreshable
        | ProfileState::Refreshing { .. }
        | ProfileState::Waiting { .. } => state.word(),
    }
}

fn state_style(state: &ProfileState) -> Style {
    match state {
        ProfileState::Usable | ProfileState::Refreshable => colour::GOOD,
        ProfileState::Expiring | ProfileState::Refreshing { .. } | ProfileState::Waiting { .. } => {
            colour::WARN
        }
        ProfileState::LoginNeeded { .. } | ProfileState::UnresolvedRef { .. } => colour::BAD,
    }
}

impl Shown<'_> {
    /// When the credential ends: `never` for a key, `unknown` where nobody said.
    pub(crate) fn expires_cell(&self, look: &Look) -> Cell {
        match (self.kind, self.expires) {
            (CredentialKind::ApiKey, _) => Cell::styled("never", colour::FAINT),
            (CredentialKind::Token | CredentialKind::OAuth, None) => Cell::styled("unknown", colour::FAINT),
            (CredentialKind::Token | CredentialKind::OAuth, Some(at)) => {
                words::when(at, self.now, look, self.absolute).into()
            }
        }
    }

    /// The lines below the profile: why it is as it is, and the command that helps.
    pub(crate) fn details(&self, look: &Look) -> Vec<Cell> {
        let mut lines = self.state_details(look);
        if let Some(bench) = self.bench {
            let reason = bench
                .reason
                .as_deref()
                .map(|reason| format!(": {reason}"))
                .unwrap_or_default();
            lines.push(Cell::styled(
                format!("{}{reason}, ends {}", bench.kind, self.when(bench.until, look)),
                colour::WARN,
            ));
        }
        lines
    }

    /// One thing for which the profile is not tried.
    pub(crate) fn benched(&self, bench: &Benched, look: &Look) -> Cell {
        let whom = bench.bucket.words();
        let whom = whom.map_or_else(String::new, |calls| format!(" for {calls}"));
        let stated = if bench.stated {
            ", as its provider says"
        } else {
            ""
        };
        let test = match bench.testable {
            _ if bench.testing => "; a request tests it now".to_owned(),
            Some(at) if at <= self.now => "; the next request tests it".to_owned(),
            Some(at) if at < bench.until => format!("; a request may test it {}", self.when(at, look)),
            _ => String::new(),
        };
        let until = self.when(bench.until, look);
        Cell::styled(
            format!("benched{whom}: {}, ends {until}{stated}{test}", bench.reason),
            colour::WARN,
        )
    }

    /// What is known of its limits.
    pub(crate) fn quota(&self, readings: &[Reading], look: &Look) -> Cell {
        if readings.is_empty() {
            return Cell::styled("limits: unknown", colour::FAINT);
        }
        let one = |reading: &Reading| {
            let reset = reading
                .resets_at
                .map_or_else(String::new, |at| format!(", resets {}", self.when(at, look)));
            let age = short_remaining(reading.at.until(self.now));
            format!(
                "{} {:.0} % used{reset} ({}, {age} ago)",
                reading.window,
                reading.used * 100.0,
                reading.source.as_str()
            )
        };
        let all: Vec<String> = readings.iter().map(one).collect();
        Cell::styled(format!("limits: {}", all.join("; ")), colour::FAINT)
    }

    fn state_details(&self, look: &Look) -> Vec<Cell> {
        match self.state {
            ProfileState::Usable | ProfileState::Expiring => Vec::new(),
            ProfileState::Refreshable => vec![Cell::styled("renewed on its next use", colour::FAINT)],
            ProfileState::Refreshing { holder, since } => {
                vec![format!("being renewed by {holder}, begun {}", self.when(*since, look)).into()]
            }
            ProfileState::LoginNeeded { reason, command } => {
                vec![reason.as_str().into(), fix(command, look)]
            }
            ProfileState::UnresolvedRef { what, fix: help } => vec![what.as_str().into(), fix(help, look)],
            // A bench says the same in more detail.
            ProfileState::Waiting { .. } if self.bench.is_some() => Vec::new(),
            ProfileState::Waiting { reason, until } => {
                let until = until
                    .map(|at| format!(", until {}", self.when(at, look)))
                    .unwrap_or_default();
                vec![format!("{reason}{until}").into()]
            }
        }
    }

    fn when(&self, at: UnixMillis, look: &Look) -> String {
        words::when(at, self.now, look, self.absolute)
    }
}

/// A line with the command that helps, never broken.
pub(crate) fn fix(command: &str, look: &Look) -> Cell {
    Cell::styled(
        format!("fix: {}", look.name.in_commands(command)),
        colour::COMMAND,
    )
    .whole()
}
