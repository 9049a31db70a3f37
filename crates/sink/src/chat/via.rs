//! By which way a model is asked: the provider's API with a lease, or a program with its own login.
//!
//! A model of Anthropic goes to `claude -p` where the login of Claude Code is in use and nothing speaks for another
//! account: neither an order that the user has set nor the session's pin.

use tokensink_neighbours::{Keychain, Neighbour, Place, places};
use tokensink_policy::chain::Model;
use tokensink_policy::classify::Reason;
use tokensink_policy::pin::PinSource;
use tokensink_providers::{ApiKind, Definition, Flow};
use tokensink_types::{BillingClass, ProfileId, ProviderId};

use super::Chat;
use super::program::Program;
use super::run::{Failure, Scope};
use crate::calls::Issued;
use crate::error::Result;
use crate::external::ExternalMode;
use crate::lease::Lease;
use crate::sink::Sink;

/// A login that a program keeps, and the program that answers with it.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    /// Its profile.
    pub(super) profile: ProfileId,
    pub(super) program: Program,
    /// It is the one to ask first.
    pub(super) preferred: bool,
    /// Its access token has run out and only the program itself renews it, so no lease can be had of it.
    pub(super) only_program: bool,
}

impl Sink {
    /// The provider's own program, for a provider that is nothing else (`claude-cli`).
    pub(super) fn program_of(&self, provider: &ProviderId) -> Option<(Program, BillingClass)> {
        let definition = self.registry().get(provider)?;
        (definition.api.kind == ApiKind::Cli).then(|| {
            let program = Program {
                command: definition.api.command.clone(),
                home: None,
            };
            (program, definition.billing)
        })
    }

    /// The login of a model provider that a program keeps, if it is in use and the agent sees it.
    pub(super) fn kept_login(&self, chat: &Chat, provider: &ProviderId) -> Result<Option<Kept>> {
        let Some((neighbour, definition)) = self.program_for(provider) else {
            return Ok(None);
        };
        let externals = self.externals();
        let serves = |mode| matches!(mode, ExternalMode::Borrowed | ExternalMode::Cooperative);
        let mut list = externals.list.iter();
        let Some(chosen) = list.find(|one| one.neighbour() == neighbour && serves(one.mode())) else {
            return Ok(None);
        };
        let profile = chosen.profile().clone();
        let snapshot = self.snapshot(chat.agent())?;
        if snapshot.profile(&profile).is_none() {
            return Ok(None);
        }
        let expires = chosen.oauth().and_then(|oauth| oauth.tokens.expires);
        let has_ended = expires.is_some_and(|at| at <= self.now());
        let keychain = Keychain::of_this_system(false);
        let usual = places(self.host(), neighbour, keychain).first().map(Place::key);
        let home = chosen
            .place()
            .home()
            .filter(|_| usual.as_deref() != Some(&*chosen.key));
        Ok(Some(Kept {
            preferred: self.may_prefer(chat, provider, &profile)?,
            only_program: has_ended && chosen.mode() == ExternalMode::Borrowed,
            program: Program {
                command: definition.api.command.clone(),
                home: home.map(ToOwned::to_owned),
            },
            profile,
        }))
    }

    /// A lease of a login that only its program renews, for the decision and the reports that every account has: the
    /// program spends its own token. `None` where the session keeps another account, or where something else speaks
    /// against it, which is told.
    pub(super) fn lease_of_program(
        &self,
        chat: &Chat,
        model: &Model,
        kept: &Kept,
    ) -> Result<std::result::Result<Lease, Option<Failure>>> {
        let snapshot = self.snapshot(chat.agent())?;
        let stored = snapshot.profile(&kept.profile);
        let (Some(stored), Some(candidate)) = (stored, snapshot.candidate(&kept.profile)) else {
            return Ok(Err(None));
        };
        if let Some(session) = chat.session() {
            let session = self.session(chat.agent(), session)?;
            let pin = session.pin_at(snapshot.config.aliases.canonical(&model.provider));
            if pin.is_some_and(|pin| pin.exists() && pin.profile != kept.profile) {
                return Ok(Err(None));
            }
        }
        let (name, now) = (Some(model.model.as_str()), self.now());
        if let Some(rule) = snapshot.config.denies(chat.agent(), candidate, name) {
            let failure = self.denied(&rule.id, Some(&kept.profile), candidate.billing);
            return Ok(Err(Some(failure)));
        }
        if let Some(window) = candidate.bench(&snapshot.config.aliases, name, now) {
            return Ok(Err(Some(Failure {
                scope: Scope::Model,
                profile: Some(kept.profile.clone()),
                reason: Reason::parse(&window.reason).unwrap_or(Reason::Unclassified),
                text: format!("{} rests ({})", kept.profile, window.reason),
                until: Some(window.until),
                billing: Some(candidate.billing),
                fix: None,
            })));
        }
        let Some(oauth) = stored.entry.credential.as_oauth() else {
            return Ok(Err(None));
        };
        let access = oauth.tokens.access.clone();
        let mut lease = self.lease(stored, access, None, oauth.account.clone(), None);
        lease.id = self.calls().lease_id();
        lease.model = Some(model.model.clone());
        lease.issued = Issued {
            at: now,
            epoch: snapshot
                .belief(&lease.owner, &lease.profile)
                .map_or(0, |entry| entry.epoch),
        };
        Ok(Ok(lease))
    }

    /// A rule of the user forbids it.
    pub(super) fn denied(&self, rule: &str, profile: Option<&ProfileId>, billing: BillingClass) -> Failure {
        Failure {
            scope: Scope::Provider,
            profile: profile.cloned(),
            reason: Reason::Unclassified,
            text: format!("the rule {rule} forbids it"),
            until: None,
            billing: Some(billing),
            fix: Some(format!(
                "change the rule {rule} in {}",
                self.paths().settings_file().display()
            )),
        }
    }

    /// The program whose login is one of `provider`, and the definition that says how it is run.
    fn program_for(&self, provider: &ProviderId) -> Option<(Neighbour, &Definition)> {
        self.registry().all().find_map(|definition| {
            let cli = definition.methods.iter().find_map(|method| match &method.flow {
                Flow::External(login) => Neighbour::parse(&login.cli),
                _ => None,
            });
            let neighbour = cli.filter(|_| definition.api.kind == ApiKind::Cli)?;
            (neighbour.provider().as_ref() == Some(provider)).then_some((neighbour, definition))
        })
    }

    /// Nothing speaks for another account of the provider.
    fn may_prefer(&self, chat: &Chat, provider: &ProviderId, profile: &ProfileId) -> Result<bool> {
        let snapshot = self.snapshot(chat.agent())?;
        let aliases = &snapshot.config.aliases;
        let orders = snapshot.config.order.iter().chain(&snapshot.state.order);
        let mut orders = orders.filter(|(id, order)| aliases.same(id, provider) && !order.is_empty());
        if orders.next().is_some() {
            return Ok(false);
        }
        let Some(session) = chat.session() else {
            return Ok(true);
        };
        let session = self.session(chat.agent(), session)?;
        let pin = session.pin_at(aliases.canonical(provider));
        Ok(pin.is_none_or(|pin| pin.source != PinSource::User || pin.profile == *profile))
    }

    /// The shape of the API that a lease is spent at.
    pub(super) fn api_kind(&self, chat: &Chat, lease: &Lease) -> Result<ApiKind> {
        let snapshot = self.snapshot(chat.agent())?;
        let oauth = snapshot
            .profile(&lease.profile)
            .and_then(|profile| profile.entry.credential.as_oauth());
        let client_id = oauth.and_then(|oauth| oauth.client_id.as_deref());
        let definition = self.registry().get(&lease.provider);
        Ok(definition.map_or(ApiKind::None, |definition| {
            definition.api_for(lease.kind, client_id).kind
        }))
    }
}
