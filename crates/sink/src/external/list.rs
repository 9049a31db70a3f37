//! Finding and telling: which logins of other programs there are, and what becomes of each.
//!
//! Only programs of providers in scope are looked at, unless somebody asks for all. What is found and not chosen is
//! listed and serves nothing. Nothing is changed.

use std::path::PathBuf;
use std::sync::Arc;

use tokensink_neighbours::{Keychain, Login, Named, Neighbour, Place, Reading, places, read, read_all};
use tokensink_policy::ProviderInUse;
use tokensink_store::AgentStore;
use tokensink_types::{AgentId, Credential, CredentialKind, Expiry, ProfileId, ProviderId, UnixMillis};

use super::chosen::{Chosen, Externals};
use super::modes::ExternalMode;
use super::words::{cli_login_command, set_command};
use crate::sink::Sink;
use crate::snapshot::AgentSnapshot;

/// Which programs are looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExternalScope {
    /// All that we know.
    All,
    /// Those that keep logins of these providers, by canonical id.
    Providers(Vec<ProviderId>),
}

/// A login that another program keeps.
#[derive(Debug, Clone)]
pub struct ExternalInfo {
    /// The program's word on our command line: `claude`, `codex`, ...
    pub cli: &'static str,
    /// Its name for people.
    pub title: &'static str,
    /// The provider, where we can tell.
    pub provider: Option<ProviderId>,
    /// Where it is, for people.
    pub place: String,
    /// The mode in force; `None` for a login that was found and that nobody has decided about.
    pub mode: Option<ExternalMode>,
    /// The profile that it is, or would be.
    pub profile: Option<ProfileId>,
    /// `found`, `off`, `usable`, `ended`, `owned`, `same_grant`, `blanked`, `signed_out`, `unusable`, `locked`.
    pub state: &'static str,
    /// What kind of credential it is, where there is one.
    pub kind: Option<CredentialKind>,
    /// Whose it is, where that is known.
    pub email: Option<String>,
    /// The plan, where that is known.
    pub plan: Option<String>,
    /// When its access token ends.
    pub expires: Option<UnixMillis>,
    /// The state dir of another installation that refreshes it.
    pub claimed_by: Option<PathBuf>,
    /// The stored profile that holds the same grant.
    pub same_grant_as: Option<ProfileId>,
    /// The mode that suits a login that was found and can be put to use.
    pub suggested: Option<ExternalMode>,
    /// What there is to know about it.
    pub note: Option<String>,
    /// The command that comes next.
    pub fix: Option<String>,
}

/// A place with what was found in it.
struct Found {
    place: Place,
    reading: Option<Arc<Reading>>,
    /// The user's choice.
    chosen: Option<Chosen>,
    /// opencode's name for one of several logins.
    name: Option<String>,
    provider: Option<ProviderId>,
}

impl Found {
    fn neighbour(&self) -> Neighbour {
        self.place.neighbour
    }

    fn login(&self) -> Option<&Login> {
        match self.reading.as_deref()? {
            Reading::Login(login) | Reading::Blanked(login) => Some(login),
            _ => None,
        }
    }

    fn profile(&self) -> Option<ProfileId> {
        let chosen = self.chosen.as_ref().map(|one| one.profile().clone());
        chosen.or_else(|| self.neighbour().profile_id())
    }
}

impl Sink {
    /// The logins that other programs keep, those in use first. `terminal` says that a person is there whom the
    /// system may ask for leave to read the Keychain. Reads, and changes nothing.
    #[must_use]
    pub fn external_list(&self, scope: &ExternalScope, terminal: bool) -> Vec<ExternalInfo> {
        let keychain = Keychain::of_this_system(terminal);
        let externals = self.externals();
        let main = self.store().load(&AgentId::main()).ok();
        let found = self.found(&externals, scope, keychain);
        found
            .iter()
            .map(|found| self.external_info(found, main.as_deref()))
            .collect()
    }

    /// The logins that belong into an agent's status: those of providers that it has or uses, and all in use.
    pub(crate) fn external_in_scope(
        &self,
        snapshot: &AgentSnapshot,
        in_use: &[ProviderInUse],
    ) -> Vec<ExternalInfo> {
        let stored = snapshot
            .view
            .profiles
            .iter()
            .map(|profile| profile.entry.credential.provider());
        let configured = snapshot
            .config
            .profiles
            .iter()
            .map(|entry| &entry.provider)
            .chain(snapshot.config.order.keys());
        let used = in_use.iter().map(|one| &one.provider);
        let mut providers: Vec<ProviderId> = stored
            .chain(configured)
            .chain(used)
            .map(|id| self.registry().canonical(id))
            .collect();
        providers.sort();
        providers.dedup();
        self.external_list(&ExternalScope::Providers(providers), false)
    }

    /// A login of `provider` that was found and that nobody has decided about, with the command that puts it to use.
    pub(crate) fn unused_login(&self, provider: &ProviderId) -> Option<(ExternalInfo, String)> {
        let scope = ExternalScope::Providers(vec![self.registry().canonical(provider)]);
        let mut found = self.external_list(&scope, false).into_iter();
        let info = found.find(|info| info.state == "found")?;
        let fix = info.fix.clone()?;
        Some((info, fix))
    }

    fn found(&self, externals: &Externals, scope: &ExternalScope, keychain: Keychain) -> Vec<Found> {
        let mut all: Vec<Found> = externals
            .list
            .iter()
            .map(|one| self.in_use(one, keychain))
            .collect();
        for neighbour in Neighbour::ALL {
            if !self.is_in_scope(neighbour, scope) {
                continue;
            }
            for place in places(self.host(), neighbour, keychain) {
                let key = place.key();
                if externals.at(&key).is_some() {
                    continue;
                }
                let readings = read_all(self.host(), &place).into_iter();
                let there = readings.filter(|named| !matches!(named.reading, Reading::Missing));
                all.extend(there.map(|named| not_chosen(&place, named)));
            }
        }
        all
    }

    /// A choice; where its mode asks nobody to look at the place, that is done for the list.
    fn in_use(&self, one: &Chosen, keychain: Keychain) -> Found {
        let may_look = one.place().path().is_some() || keychain != Keychain::Absent;
        let looked = || may_look.then(|| Arc::new(read(self.host(), one.place())));
        Found {
            place: one.place().clone(),
            reading: one.reading.clone().or_else(looked),
            provider: one.neighbour().provider(),
            chosen: Some(one.clone()),
            name: None,
        }
    }

    fn is_in_scope(&self, neighbour: Neighbour, scope: &ExternalScope) -> bool {
        match scope {
            ExternalScope::All => true,
            ExternalScope::Providers(ids) => neighbour
                .provider()
                .is_some_and(|provider| ids.contains(&self.registry().canonical(&provider))),
        }
    }

    fn external_info(&self, found: &Found, main: Option<&AgentStore>) -> ExternalInfo {
        let neighbour = found.neighbour();
        let (login, profile, chosen) = (found.login(), found.profile(), found.chosen.as_ref());
        let oauth = login.and_then(|login| login.credential.as_oauth());
        let same_grant_as = match (main, oauth, &profile) {
            (Some(main), Some(oauth), Some(id)) => self.same_grant_as(main, oauth, id),
            _ => None,
        };
        let place = match &found.name {
            Some(name) => format!("{} ({name})", found.place),
            None => found.place.to_string(),
        };
        let mut info = ExternalInfo {
            cli: neighbour.as_str(),
            title: neighbour.title(),
            provider: found.provider.clone(),
            place,
            mode: chosen.map(Chosen::mode),
            profile,
            state: "found",
            kind: login.map(|login| login.credential.kind()),
            email: login.and_then(|login| login.credential.labels().email.clone()),
            plan: login.and_then(|login| login.plan.clone()),
            expires: login.and_then(end_of),
            claimed_by: chosen.and_then(|one| one.claimed_by.clone()),
            same_grant_as,
            suggested: None,
            note: chosen
                .and_then(Chosen::why_only_borrowed)
                .map(|why| format!("borrowed only: {why}")),
            fix: None,
        };
        self.judge(found, &mut info);
        let trouble = chosen.and_then(Chosen::passing_trouble);
        info.fix = info.fix.or_else(|| trouble?.fix.clone());
        info
    }

    /// State, note and next command.
    fn judge(&self, found: &Found, info: &mut ExternalInfo) {
        let neighbour = found.neighbour();
        let login_again = Some(cli_login_command(neighbour));
        match (info.mode, found.reading.as_deref()) {
            (Some(ExternalMode::Off), _) => info.state = "off",
            (Some(ExternalMode::Owned), _) => {
                info.state = "owned";
                if self.externals().wired.contains(&neighbour) {
                    info.note = Some(format!("{} asks tokensink for each token", neighbour.title()));
                } else {
                    info.fix = Some(format!("tokensink external wire {neighbour}"));
                }
                if found
                    .chosen
                    .as_ref()
                    .is_some_and(|one| one.entry.moving.is_some())
                {
                    info.note = Some("its move into tokensink was cut off; finish it".to_owned());
                    info.fix = Some(set_command(neighbour, ExternalMode::Owned));
                }
            }
            (_, None | Some(Reading::SignedOut | Reading::Missing)) => {
                info.state = "signed_out";
                info.fix = login_again;
            }
            (mode, Some(Reading::Unusable { reason })) => {
                info.state = "unusable";
                info.note = Some(reason.clone());
                let moved = found.chosen.as_ref().filter(|one| one.is_moved());
                info.fix = moved.and(mode).map(|mode| set_command(neighbour, mode));
            }
            (_, Some(Reading::Locked { hint })) => {
                info.state = "locked";
                info.note = Some(hint.clone());
            }
            (_, Some(Reading::Blanked(_))) => {
                info.state = "blanked";
                self.judge_blanked(found, info, login_again);
            }
            (_, Some(Reading::Login(_))) if info.same_grant_as.is_some() => {
                info.state = "same_grant";
                let other = info.same_grant_as.as_ref().map_or("", ProfileId::as_str);
                info.note = Some(format!(
                    "same grant as {other}, which is stored here: a refresh on one side logs the other out"
                ));
                let mode = ExternalMode::Owned;
                info.fix = neighbour.may_cooperate().then(|| set_command(neighbour, mode));
            }
            (None, Some(Reading::Login(login))) => judge_found(neighbour, login, info),
            (Some(mode), Some(Reading::Login(login))) => self.judge_used(neighbour, mode, login, info),
        }
    }

    fn judge_blanked(&self, found: &Found, info: &mut ExternalInfo, login_again: Option<String>) {
        let title = found.neighbour().title();
        let cooperative = info.mode == Some(ExternalMode::Cooperative);
        let record = found.chosen.as_ref().and_then(|one| self.record_at(one));
        let ours = cooperative && record.is_some();
        if ours {
            info.note = Some(format!("{title} blanked it; the next use heals it"));
        } else {
            info.note = Some(format!("{title} blanked it after a refresh was refused"));
            info.fix = login_again;
        }
    }

    fn judge_used(&self, neighbour: Neighbour, mode: ExternalMode, login: &Login, info: &mut ExternalInfo) {
        let ended = info.expires.is_some_and(|end| end <= self.now());
        info.state = if ended { "ended" } else { "usable" };
        let refreshed = mode == ExternalMode::Cooperative && login.credential.kind() == CredentialKind::OAuth;
        if ended && !refreshed {
            info.fix = Some(self.renew_command(neighbour));
            if neighbour.may_cooperate() && info.note.is_none() {
                info.note = Some(format!(
                    "borrowed logins are not refreshed; on a host where nobody sits: {}",
                    set_command(neighbour, ExternalMode::Cooperative)
                ));
            }
        } else if ended {
            info.note = Some("refreshed at its next use".to_owned());
        }
    }
}

fn judge_found(neighbour: Neighbour, login: &Login, info: &mut ExternalInfo) {
    if info.profile.is_none() || login.credential.kind() == CredentialKind::ApiKey {
        info.note = Some("not used; it can be imported".to_owned());
        info.fix = Some(format!("tokensink import {neighbour}"));
        return;
    }
    let refreshable = neighbour.may_cooperate()
        && login.only_borrowed.is_none()
        && login.credential.kind() == CredentialKind::OAuth;
    let mode = if refreshable {
        ExternalMode::Cooperative
    } else {
        ExternalMode::Borrowed
    };
    info.note = Some(match &login.only_borrowed {
        Some(why) => format!("not used; it can be borrowed only: {why}"),
        None => "not used".to_owned(),
    });
    info.suggested = Some(mode);
    info.fix = Some(set_command(neighbour, mode));
}

fn not_chosen(place: &Place, named: Named) -> Found {
    let has_many = place.neighbour.provider().is_none();
    Found {
        place: place.clone(),
        reading: Some(Arc::new(named.reading)),
        chosen: None,
        name: has_many.then_some(named.name),
        provider: named.provider,
    }
}

fn end_of(login: &Login) -> Option<UnixMillis> {
    match &login.credential {
        Credential::OAuth(oauth) => oauth.tokens.expires,
        Credential::Token(token) => match token.expires {
            Expiry::At(at) => Some(at),
            Expiry::Never | Expiry::Invalid => None,
        },
        Credential::ApiKey(_) => None,
    }
}
