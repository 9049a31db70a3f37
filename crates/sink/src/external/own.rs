//! Moving a grant between another program's store and ours, so that at every moment one of them at most spends it.
//!
//! The mark `moving` stands in the choices from before the first step until after the last. While it stands, a stored
//! profile is not refreshed as long as the program's store holds a login, which may be the same grant spent further; the
//! access token goes on being served. Whatever step a move is cut off at, the same command finishes it, and the grant is in one store at least.

use std::time::Duration;

use tokensink_neighbours::{
    Neighbour, Reading, RefreshLocks, Written, lock_for_refresh, put_login, read, take_login,
};
use tokensink_store::{CasOutcome, Expected};
use tokensink_types::record::RecordState;
use tokensink_types::{Account, AgentId, Credential, OAuth, ProfileId, ProviderId, Secret, SpendKey};

use super::choose::Change;
use super::modes::{Entry, ExternalMode, Modes};
use crate::block::quoted;
use crate::error::{ErrorKind, Result, SinkError};
use crate::grant::{Grant, with_generation};
use crate::login::keep::Newcomer;
use crate::owner::{OwnerError, Target};
use crate::sink::Sink;

/// How long a move waits for the program to end a refresh of its own.
const LOCK_WAIT: Duration = Duration::from_secs(10);
/// How often a move follows a program that refreshes without a lock (clients.md 0.1).
const ROUNDS_MAX: u32 = 4;
/// Settles what is due, also a request that was never answered.
const RENEW: &str = "tokensink renew";

impl Sink {
    /// Mode `owned`: stores the grant of the place in main's own store and takes it from the program's.
    pub(super) fn move_in(&self, change: &mut Change) -> Result<ProfileId> {
        let neighbour = change.neighbour();
        let plain = neighbour.profile_id().ok_or_else(|| {
            SinkError::new(
                ErrorKind::Usage,
                "many_logins",
                "its logins can be imported, not moved",
            )
        })?;
        let before = change.before.clone();
        if !neighbour.may_cooperate() {
            let message = format!(
                "nothing may be written into the store of {}, so its login cannot be moved",
                neighbour.title()
            );
            return Err(SinkError::new(ErrorKind::Usage, "only_borrowed", message)
                .with_fix(format!("tokensink import {neighbour}")));
        }
        if let Some(entry) = before
            .as_ref()
            .filter(|entry| entry.mode == ExternalMode::Cooperative)
        {
            self.bring_up(&self.place_target(change, &entry.profile))?;
        }
        let known = before.as_ref().map_or(&plain, |entry| &entry.profile);
        let place_profile = if known.name_part().starts_with(plain.name_part()) {
            known.clone()
        } else {
            plain
        };
        let provider = provider_of(neighbour)?;
        let _grant = self.lock_grant(&provider, &place_profile, "moved")?;
        let _theirs = self.lock_theirs(change)?;
        let reading = read(self.host(), &change.place);
        let signed_out = matches!(reading, Reading::SignedOut | Reading::Missing);
        let profile = match before.filter(|entry| entry.mode == ExternalMode::Owned && signed_out) {
            // It was taken before; what comes after that may be left to do.
            Some(entry) => self.moved_profile(&entry)?,
            None => {
                let login = self.usable(neighbour, &change.place, &reading)?;
                if let Some(why) = &login.only_borrowed {
                    let message = format!("the login of {} cannot be moved: {why}", neighbour.title());
                    return Err(SinkError::new(ErrorKind::Usage, "only_borrowed", message)
                        .with_fix(super::words::set_command(neighbour, ExternalMode::Borrowed)));
                }
                self.take_over(change, &place_profile, &reading)?
            }
        };
        let key = self.record_key(&self.place_target(change, &place_profile))?;
        if let Some(Err(error)) = key.map(|key| self.journal().erase(&key)) {
            change
                .notes
                .push(format!("the record of the former mode is still there: {error}"));
        }
        self.write_choice(&change.entry(ExternalMode::Owned, &profile))?;
        self.release(change);
        Ok(profile)
    }

    /// Stores, reads back, takes away. A program that refreshed in between is followed.
    fn take_over(
        &self,
        change: &mut Change,
        place_profile: &ProfileId,
        first: &Reading,
    ) -> Result<ProfileId> {
        let mut reading = first.clone();
        for _ in 0..ROUNDS_MAX {
            let oauth = self.grant_at(change, place_profile, &reading)?;
            let held = oauth.tokens.refresh_token().map(SpendKey::of);
            let mut mark = change.entry(ExternalMode::Owned, place_profile);
            mark.moving = held;
            self.write_choice(&mark)?;
            let profile = self.store_moved(change, &oauth)?;
            let stored = self.stored_oauth(&Target::of_agent(&AgentId::main(), &profile))?;
            let read_back = stored.as_ref().and_then(|oauth| oauth.tokens.refresh_token());
            if read_back.map(SpendKey::of) != held {
                return Err(moved_on(&profile));
            }
            let (Some(expected), Some(login)) = (key_of(&reading), reading.login()) else {
                return Err(moved_on(&profile));
            };
            // What the section says besides the tokens goes back with them one day.
            let key = change.place.key();
            self.edit_choices(|modes| modes.set_frame(&key, &login.frame))?;
            match take_login(self.host(), &change.place, expected).map_err(OwnerError::from)? {
                Written::Done => return Ok(profile),
                Written::Conflict(Reading::SignedOut | Reading::Missing) => return Ok(profile),
                Written::Conflict(next) => reading = next,
            }
        }
        Err(moved_on(place_profile))
    }

    /// The grant that the reading holds, with what our record of it knows besides.
    fn grant_at(&self, change: &Change, place_profile: &ProfileId, reading: &Reading) -> Result<OAuth> {
        let login = self.usable(change.neighbour(), &change.place, reading)?;
        let oauth = login.credential.as_oauth().ok_or_else(|| {
            let message = format!(
                "{} has no refresh token, so there is nothing to move",
                change.place
            );
            SinkError::new(ErrorKind::Usage, "no_refresh_token", message)
        })?;
        let target = self.place_target(change, place_profile);
        let key = self.record_key(&target)?;
        let grant = self.overlaid(&target, oauth, key.as_ref())?;
        if in_doubt(&grant) {
            let refreshes_here = change
                .before
                .as_ref()
                .is_some_and(|entry| entry.mode == ExternalMode::Cooperative);
            let fix = if refreshes_here {
                RENEW.to_owned()
            } else {
                self.renew_command(change.neighbour())
            };
            return Err(unanswered(place_profile, fix));
        }
        Ok(with_generation(oauth, &grant.generation))
    }

    fn store_moved(&self, change: &mut Change, oauth: &OAuth) -> Result<ProfileId> {
        let main = AgentId::main();
        let id = change
            .neighbour()
            .profile_id()
            .unwrap_or_else(|| ProfileId::of(&oauth.provider, "default"));
        let store = self.store().load(&main)?;
        if let Some(copy) = self.same_grant_as(&store, oauth, &id) {
            self.bring_copy_up(&copy, oauth)?;
            return Ok(copy);
        }
        let account = Account {
            email: oauth.account.email.clone().or_else(|| oauth.labels.email.clone()),
            ..oauth.account.clone()
        };
        let kept = self.keep(&Newcomer {
            agent: main,
            provider: oauth.provider.clone(),
            credential: Credential::OAuth(oauth.clone()),
            name: self.moved_name(oauth, &account),
            account,
            issued_at: None,
            wanted: None,
            reserved: id
                .provider_part()
                .map(|_| id.name_part().to_owned())
                .into_iter()
                .collect(),
            replaces: false,
            default_model: None,
        })?;
        change.notes.extend(kept.notes);
        Ok(kept.profile)
    }

    /// `default`, unless that is another account's; then the e-mail address (spec.md 3.2).
    fn moved_name(&self, oauth: &OAuth, account: &Account) -> String {
        let default = ProfileId::of(&oauth.provider, "default");
        let there = self.store().credential(&AgentId::main(), &default).ok().flatten();
        let is_others = there.is_some_and(|there| {
            there
                .as_oauth()
                .is_none_or(|there| !there.account.may_adopt(account))
        });
        match &account.email {
            Some(email) if is_others => email.clone(),
            _ => "default".to_owned(),
        }
    }

    /// A copy that is stored already gets what the program's store holds, where that is newer.
    fn bring_copy_up(&self, copy: &ProfileId, oauth: &OAuth) -> Result<()> {
        let target = Target::of_agent(&AgentId::main(), copy);
        let Some(grant) = self.grant(&target)? else {
            return Err(moved_on(copy));
        };
        let same = grant.generation.spend_key() == oauth.tokens.refresh_token().map(SpendKey::of);
        if same || grant.generation.tokens.expires >= oauth.tokens.expires {
            return Ok(());
        }
        let stored = self.stored_oauth(&target)?;
        let expected = stored
            .and_then(|oauth| oauth.tokens.refresh_token().map(SpendKey::of))
            .map_or(Expected::NoRefreshToken, Expected::Spend);
        let next = Credential::OAuth(oauth.clone());
        match self
            .store()
            .compare_and_set(&target.owner, copy, expected, Some(&next))?
        {
            CasOutcome::Done => Ok(()),
            CasOutcome::Conflict(_) => Err(moved_on(copy)),
        }
    }

    /// From `owned` back: gives the grant to the program and removes it from main's store.
    pub(super) fn move_out(&self, change: &mut Change) -> Result<()> {
        let Some(mut entry) = change.before.clone() else {
            return Ok(());
        };
        let cut_off = entry.moving.is_some();
        entry.profile = self.moved_profile(&entry)?;
        let target = Target::of_agent(&AgentId::main(), &entry.profile);
        let Some(provider) = self.stored_oauth(&target)?.map(|oauth| oauth.provider) else {
            // It was logged out here, or all but the mark was done before: nothing is left to give back.
            change.before = None;
            return Ok(());
        };
        self.bring_up(&target)?;
        let _grant = self.lock_grant(&provider, &entry.profile, "moved")?;
        let _theirs = self.lock_theirs(change)?;
        let Some(grant) = self.grant(&target)? else {
            return Err(moved_on(&entry.profile));
        };
        if in_doubt(&grant) {
            return Err(unanswered(&entry.profile, RENEW.to_owned()));
        }
        if grant.heal {
            return Err(moved_on(&entry.profile));
        }
        let oauth = with_generation(&grant.oauth, &grant.generation);
        let held = grant.generation.spend_key();
        let mut mark = entry.clone();
        mark.moving = held;
        self.write_choice(&mark)?;
        let frame = self.frame_of(&entry.key)?;
        let put = put_login(self.host(), &change.place, &oauth, frame.as_ref(), self.now());
        match put.map_err(OwnerError::from)? {
            Written::Done => {}
            Written::Conflict(found) if key_of(&found) == held => {}
            Written::Conflict(_) => {
                if !cut_off {
                    // Nothing of it has ever been put there.
                    self.write_choice(&entry)?;
                }
                return Err(self.other_login(change, &entry.profile));
            }
        }
        self.remove_moved(&target, held, &mut change.notes)?;
        change.before = None;
        Ok(())
    }

    fn remove_moved(&self, target: &Target, held: Option<SpendKey>, notes: &mut Vec<String>) -> Result<()> {
        let expected = held.map_or(Expected::NoRefreshToken, Expected::Spend);
        match self
            .store()
            .compare_and_set(&target.owner, &target.profile, expected, None)?
        {
            CasOutcome::Done | CasOutcome::Conflict(None) => {
                self.forget(target, notes);
                Ok(())
            }
            CasOutcome::Conflict(Some(_)) => Err(moved_on(&target.profile)),
        }
    }

    /// The program was logged in anew meanwhile: two grants, and each stays where it is.
    fn other_login(&self, change: &Change, profile: &ProfileId) -> SinkError {
        let neighbour = change.neighbour();
        let message = format!(
            "{} has another login in {} by now, so {profile} cannot be given back; log one of the two out",
            neighbour.title(),
            change.place
        );
        SinkError::new(ErrorKind::Usage, "other_login", message)
            .with_fix(format!(
                "tokensink models auth logout {} --agent main",
                quoted(profile.as_str())
            ))
            .about(profile)
    }

    fn frame_of(&self, key: &str) -> Result<Option<Secret>> {
        let (modes, _) = Modes::load(self.host(), &self.external_file())?;
        Ok(modes.frame(key))
    }

    fn lock_theirs(&self, change: &Change) -> Result<RefreshLocks> {
        let locks = lock_for_refresh(self.host(), &change.place, LOCK_WAIT).map_err(OwnerError::from)?;
        Ok(locks)
    }

    /// The profile that a move of this place has made, also where the move was cut off before it was noted.
    fn moved_profile(&self, entry: &Entry) -> Result<ProfileId> {
        let Some(key) = entry.moving else {
            return Ok(entry.profile.clone());
        };
        let main = self.store().load(&AgentId::main())?;
        let mut holders = self.stored_with(&main, key);
        Ok(holders.next().unwrap_or(&entry.profile).clone())
    }

    /// A stored profile whose move is not finished, while the program's store holds a login: it must not be refreshed,
    /// since the program may have spent the token that both had. Tells the command that finishes the move.
    pub(crate) fn unfinished_move(&self, target: &Target, oauth: &OAuth) -> Option<String> {
        if target.place().is_some() || !target.owner.is_main() {
            return None;
        }
        let ours = oauth.tokens.refresh_token().map(SpendKey::of)?;
        let externals = self.externals();
        let mut moving = externals.list.iter().filter(|one| one.entry.moving.is_some());
        let one = moving.find(|one| {
            let there = read(self.host(), one.place());
            let may_spend = !matches!(there, Reading::SignedOut | Reading::Missing | Reading::Blanked(_));
            key_of(&there) == Some(ours) || (may_spend && one.entry.moving == Some(ours))
        })?;
        Some(super::words::set_command(one.neighbour(), ExternalMode::Owned))
    }
}

/// Was the present refresh token sent, and never answered?
fn in_doubt(grant: &Grant) -> bool {
    let current = grant.generation.spend_key();
    grant
        .record
        .as_deref()
        .is_some_and(|record| matches!(&record.state, RecordState::Sent(sent) if Some(sent.spend) == current))
}

fn unanswered(profile: &ProfileId, fix: String) -> SinkError {
    let message = format!(
        "a refresh of {profile} was sent and never answered, so it is not known which token is the valid one; it can be \
         moved when that is settled, which is tried after the present access token has run out"
    );
    SinkError::new(ErrorKind::TryAgain, "unanswered", message)
        .with_fix(fix)
        .about(profile)
}

fn provider_of(neighbour: Neighbour) -> Result<ProviderId> {
    neighbour.provider().ok_or_else(|| {
        let message = format!("the logins of {} can be imported, not moved", neighbour.title());
        SinkError::new(ErrorKind::Usage, "many_logins", message)
            .with_fix(format!("tokensink import {neighbour}"))
    })
}

fn key_of(reading: &Reading) -> Option<SpendKey> {
    let oauth = reading.login()?.credential.as_oauth()?;
    oauth.tokens.refresh_token().map(SpendKey::of)
}

fn moved_on(profile: &ProfileId) -> SinkError {
    let message = format!(
        "{profile} was changed by another program while it was being moved; run the same command again"
    );
    SinkError::new(ErrorKind::TryAgain, "conflict", message).about(profile)
}
