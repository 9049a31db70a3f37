//! Auth choices that use the login of another program (spec.md 13.1: `claude-cli`, `codex-cli`).

use tokensink_neighbours::Neighbour;
use tokensink_types::{ProfileId, ProviderId};

use crate::error::{ErrorKind, Result, SinkError};
use crate::external::{ExternalInfo, ExternalMode, ExternalScope, ExternalSet, cli_login_command};
use crate::onboard::KeyChange;
use crate::sink::Sink;

/// The login of another program that is used from now on.
#[derive(Debug, Clone)]
pub struct GuestOutcome {
    /// The profile that it is.
    pub profile: ProfileId,
    /// Its provider.
    pub provider: Option<ProviderId>,
    /// How it is used.
    pub mode: ExternalMode,
    /// What was done.
    pub change: KeyChange,
    /// What else the user should know.
    pub notes: Vec<String>,
    /// The command that comes next, if one does.
    pub next: Option<String>,
}

impl Sink {
    /// Puts the login of a program (`claude`, `codex`, ...) to use: as `mode` says; without one as it is used already,
    /// else refreshed together with the program, or only read where that cannot be. `terminal` as in
    /// [`Sink::external_list`].
    ///
    /// # Errors
    /// [`ErrorKind::Failed`] when the program has no login, otherwise as for [`Sink::external_set`].
    pub fn settle_guest(
        &self,
        cli: &str,
        mode: Option<ExternalMode>,
        terminal: bool,
    ) -> Result<GuestOutcome> {
        let mut known = self.external_list(&ExternalScope::All, terminal);
        known.retain(|info| info.cli == cli);
        if let Some(neighbour) = Neighbour::parse(cli)
            && known.iter().all(|info| info.state == "signed_out")
        {
            // Nothing is even looked for under a lock, so that nothing is left on disk.
            return Err(absent(neighbour));
        }
        let used = known.into_iter().find(is_used);
        if let Some((info, now)) = used.and_then(|info| info.mode.map(|now| (info, now)))
            && mode.is_none_or(|mode| mode == now)
            && let Some(profile) = info.profile
        {
            return Ok(GuestOutcome {
                profile,
                provider: info.provider,
                mode: now,
                change: KeyChange::Unchanged,
                notes: info.note.into_iter().collect(),
                next: info.fix,
            });
        }
        let set = |mode| {
            self.external_set(&ExternalSet {
                cli: cli.to_owned(),
                mode,
                place: None,
                terminal,
            })
        };
        let changed = match set(mode.unwrap_or(ExternalMode::Cooperative)) {
            Err(error) if mode.is_none() && error.code() == CANNOT_COOPERATE => set(ExternalMode::Borrowed),
            changed => changed,
        }?;
        let part = changed.profile.provider_part();
        Ok(GuestOutcome {
            provider: part.and_then(|part| ProviderId::parse(part).ok()),
            profile: changed.profile,
            mode: changed.mode,
            change: match changed.before {
                None | Some(ExternalMode::Off) => KeyChange::Stored,
                Some(_) => KeyChange::Updated,
            },
            notes: changed.notes,
            next: changed.next,
        })
    }
}

/// The refusal of a login that we cannot refresh.
const CANNOT_COOPERATE: &str = "only_borrowed";

fn is_used(info: &ExternalInfo) -> bool {
    let is_there = !matches!(info.state, "signed_out" | "unusable" | "locked");
    is_there && info.mode.is_some_and(|mode| mode != ExternalMode::Off)
}

/// A login that is not there is no slip in the command (spec.md 13.1).
fn absent(neighbour: Neighbour) -> SinkError {
    let message = format!("{} is not logged in on this host", neighbour.title());
    SinkError::new(ErrorKind::Failed, "no_external_login", message).with_fix(cli_login_command(neighbour))
}
