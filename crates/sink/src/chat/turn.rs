//! One question and its answer: models in turn, and the accounts of each.

use std::time::Duration;

use tokensink_policy::Used;
use tokensink_policy::chain::Model;
use tokensink_policy::classify::Reason;
use tokensink_types::{BillingClass, ProfileId};

use super::ask::{Given, Next, by_program, given_up};
use super::run::{Failure, Run, Scope};
use super::via::Kept;
use super::{Chat, ChatAnswer, ChatEvent, Serving};
use crate::calls::CallOutcome;
use crate::error::{ErrorKind, Result, SinkError};
use crate::lease::{AcquireRequest, Lease, Want};
use crate::login::Cancel;
use crate::models::ModelTarget;
use crate::sink::Sink;

/// How long a refresh, or a bench that ends soon, is waited for: somebody sits there and sees nothing meanwhile. A
/// refresh goes on without us.
const ACQUIRE_WAIT: Duration = Duration::from_secs(20);
/// Most accounts of one model that are tried; nobody has more of one provider that are of use in one turn.
const ACCOUNTS_MAX: u32 = 16;

/// A model that is asked in this turn.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) model: &'a Model,
    /// The profile that was asked for with it.
    pub(super) profile: Option<&'a ProfileId>,
    /// Other models follow, which come first after a few of its accounts.
    has_others: bool,
    /// Cheaper accounts are left of a model that gave way.
    cheaper_waits: bool,
}

/// What asking a model came to.
enum ModelOutcome {
    Answer(Given),
    /// None of its accounts is left.
    Nothing,
    /// There may be others, but another model is to be asked first.
    GaveWay,
}

/// Whom a model may be asked with.
enum Leased {
    Lease(Box<Lease>),
    /// Nothing came of this one, but there may be another.
    Again,
    Nobody,
}

impl Sink {
    /// Asks one question, and tells `tell` what happens meanwhile, the pieces of the answer among it. Only a whole
    /// answer becomes part of the conversation.
    ///
    /// # Errors
    /// When nobody answered: every attempt is named, the kind says whether waiting or a login helps, and
    /// [`SinkError::retry_at`] is the soonest time. `cancelled` when `cancel` was set, `answer_broken` when the answer
    /// broke off or did not come: it is not asked for again, since it may have been billed.
    pub fn chat_turn(
        &self,
        chat: &mut Chat,
        prompt: &str,
        cancel: &Cancel,
        tell: &mut dyn FnMut(ChatEvent<'_>),
    ) -> Result<ChatAnswer> {
        let target = self.chat_target(chat)?;
        let models = self.model_chain(chat.agent(), &target)?;
        let rotations = self.cooldowns()?.rotations();
        let mut run = Run::new(prompt, cancel, tell, self.calls().lease_id(), rotations);
        let mut gave_way = Vec::new();
        for (at, model) in models.iter().enumerate() {
            let asked = Asked {
                model,
                profile: target.profile.as_ref().filter(|_| at == 0),
                has_others: at + 1 < models.len(),
                cheaper_waits: !gave_way.is_empty(),
            };
            match self.ask_model(chat, &mut run, &asked)? {
                ModelOutcome::Answer(given) => return Ok(self.answered(chat, run, given)),
                ModelOutcome::Nothing => {}
                ModelOutcome::GaveWay => gave_way.push(asked),
            }
        }
        // The other models have had their turn: who has not been asked yet is better than no answer.
        for asked in gave_way {
            let last = Asked {
                has_others: false,
                cheaper_waits: false,
                ..asked
            };
            if let ModelOutcome::Answer(given) = self.ask_model(chat, &mut run, &last)? {
                return Ok(self.answered(chat, run, given));
            }
        }
        Err(run.summary(self))
    }

    /// The model that is asked first: the one that the chat was opened with, else the session's, else the default.
    ///
    /// # Errors
    /// When it cannot be resolved, or the session cannot be read.
    pub fn chat_target(&self, chat: &Chat) -> Result<ModelTarget> {
        let agent = chat.agent();
        if let Some(model) = &chat.request.model {
            return self.resolve_model(agent, model);
        }
        let model = match chat.session() {
            Some(session) => self.session(agent, session)?.model,
            None => self.models_view(agent)?.resolved_default,
        };
        self.resolve_model(agent, &model)
    }

    fn answered(&self, chat: &mut Chat, mut run: Run<'_>, given: Given) -> ChatAnswer {
        let text = std::mem::take(&mut run.shown);
        let program = given.program_session.as_deref();
        let kept = chat.kept_session().map(|session| {
            let add = |kept: &mut super::Transcript| kept.add(run.prompt, &text, program);
            self.change_transcript(chat.agent(), &session, add)
        });
        match kept {
            Some(Ok(transcript)) => chat.transcript = transcript,
            Some(Err(error)) => {
                run.note(&error.to_string());
                chat.transcript.add(run.prompt, &text, program);
            }
            None => chat.transcript.add(run.prompt, &text, program),
        }
        chat.serving = Some(given.serving.clone());
        ChatAnswer {
            text,
            serving: given.serving,
            usage: given.usage,
            stop: given.stop,
            attempts: run.attempts(),
        }
    }

    /// Who would be asked now, for a prompt: nothing is waited for, changed or noted. `None` where nobody can be named.
    #[must_use]
    pub fn chat_prospect(&self, chat: &Chat) -> Option<Serving> {
        let target = self.chat_target(chat).ok()?;
        let models = self.model_chain(chat.agent(), &target).ok()?;
        let asked = Asked {
            model: models.first()?,
            profile: target.profile.as_ref(),
            has_others: false,
            cheaper_waits: false,
        };
        if let Some((program, billing)) = self.program_of(&asked.model.provider) {
            if self.denied_program(chat, asked.model, billing).ok()?.is_some() {
                return None;
            }
            return Some(by_program(asked.model, &program, None, billing));
        }
        let kept = self.kept_for(chat, &asked).ok()?;
        if let Some(kept) = kept.as_ref().filter(|kept| kept.preferred && kept.only_program)
            && let Ok(lease) = self.lease_of_program(chat, asked.model, kept).ok()?
        {
            let (program, profile) = (&kept.program, Some(&kept.profile));
            return Some(by_program(asked.model, program, profile, lease.billing));
        }
        let request = wish(chat, &asked, kept.as_ref(), None);
        let snapshot = self.snapshot(chat.agent()).ok()?;
        let wanted = self.wanted(&request.want, &snapshot).ok()?;
        let profile = &self
            .decide(&snapshot, wanted, &request)
            .ok()?
            .choice()?
            .profile
            .clone();
        let billing = self.class_of(chat, profile).ok()?;
        Some(match kept.filter(|kept| kept.profile == *profile) {
            Some(kept) => by_program(asked.model, &kept.program, Some(profile), billing),
            None => Serving {
                model: asked.model.to_string(),
                profile: Some(profile.clone()),
                email: None,
                billing,
                program: None,
            },
        })
    }

    /// The login that a program keeps and that may answer: the program is there, and nobody else was asked for by name.
    fn kept_for(&self, chat: &Chat, asked: &Asked<'_>) -> Result<Option<Kept>> {
        let kept = self.kept_login(chat, &asked.model.provider)?;
        let kept = kept.filter(|kept| self.program_path(kept.program.name()).is_some());
        Ok(kept.filter(|kept| asked.profile.is_none_or(|profile| *profile == kept.profile)))
    }

    /// Asks one model.
    fn ask_model(&self, chat: &Chat, run: &mut Run<'_>, asked: &Asked<'_>) -> Result<ModelOutcome> {
        let provider = &asked.model.provider;
        if let Some((program, billing)) = self.program_of(provider) {
            if let Some(failure) = self.denied_program(chat, asked.model, billing)? {
                run.fail(asked.model, failure);
                return Ok(ModelOutcome::Nothing);
            }
            let serving = by_program(asked.model, &program, None, billing);
            if let Some(outcome) = self.too_dear(chat, run, asked, &Price::of(None, billing))? {
                return Ok(outcome);
            }
            return Ok(
                match self.ask_program(chat, run, asked, &program, (serving, None))? {
                    Next::Done(given) => ModelOutcome::Answer(given),
                    _ => ModelOutcome::Nothing,
                },
            );
        }
        let kept = self.kept_for(chat, asked)?;
        let kept = kept.filter(|kept| !run.has_tried(&kept.profile, asked.model));
        if let Some(kept) = kept.as_ref().filter(|kept| kept.preferred && kept.only_program) {
            match self.lease_of_program(chat, asked.model, kept)? {
                Ok(lease) => {
                    if let Some(outcome) = self.ask_program_alone(chat, run, asked, kept, &lease)? {
                        return Ok(outcome);
                    }
                }
                Err(failure) => {
                    if let Some(failure) = failure {
                        run.fail(asked.model, failure);
                    }
                }
            }
        }
        self.ask_accounts(chat, run, asked, kept.as_ref())
    }

    /// Asks the program whose login nobody else can spend. `None` where accounts come next.
    fn ask_program_alone(
        &self,
        chat: &Chat,
        run: &mut Run<'_>,
        asked: &Asked<'_>,
        kept: &Kept,
        lease: &Lease,
    ) -> Result<Option<ModelOutcome>> {
        let serving = by_program(asked.model, &kept.program, Some(&kept.profile), lease.billing);
        match self.too_dear(chat, run, asked, &Price::of(Some(&kept.profile), lease.billing))? {
            // An account of the model may be cheaper.
            Some(ModelOutcome::Nothing) => return Ok(None),
            Some(outcome) => return Ok(Some(outcome)),
            None => {}
        }
        Ok(
            match self.ask_program(chat, run, asked, &kept.program, (serving, Some(lease)))? {
                Next::Done(given) => Some(ModelOutcome::Answer(given)),
                Next::Model => Some(ModelOutcome::Nothing),
                _ => (asked.has_others && run.is_others_turn(asked.model)).then_some(ModelOutcome::GaveWay),
            },
        )
    }

    /// Why a rule of the user keeps a program from being asked that is a provider of its own.
    fn denied_program(&self, chat: &Chat, model: &Model, billing: BillingClass) -> Result<Option<Failure>> {
        let snapshot = self.snapshot(chat.agent())?;
        let used = Used {
            profile: None,
            provider: &model.provider,
            billing,
        };
        let rule = snapshot
            .config
            .denies_use(chat.agent(), &used, Some(&model.model));
        Ok(rule.map(|rule| self.denied(&rule.id, None, billing)))
    }

    /// Asks the accounts of a model in turn.
    fn ask_accounts(
        &self,
        chat: &Chat,
        run: &mut Run<'_>,
        asked: &Asked<'_>,
        kept: Option<&Kept>,
    ) -> Result<ModelOutcome> {
        let mut refresh: Option<(Lease, Failure)> = None;
        for tries in 0..ACCOUNTS_MAX {
            let refreshed = refresh.is_some();
            let lease = match self.lease_for(chat, run, asked, kept, refresh.take())? {
                Leased::Lease(lease) => *lease,
                Leased::Again => continue,
                Leased::Nobody => return Ok(ModelOutcome::Nothing),
            };
            if let Some(note) = &lease.note {
                run.note(note);
            }
            let price = Price {
                // With another token it is the same call.
                is_counted: refreshed || lease.crosses.is_some(),
                ..Price::of(Some(&lease.profile), lease.billing)
            };
            if let Some(outcome) = self.too_dear(chat, run, asked, &price)? {
                if lease.crosses.is_some() {
                    self.uncount_crossing();
                }
                self.tell_report(&lease, &CallOutcome::Abandoned);
                return Ok(outcome);
            }
            let next = match kept.filter(|kept| kept.profile == lease.profile) {
                Some(kept) => {
                    let mut serving =
                        by_program(asked.model, &kept.program, Some(&lease.profile), lease.billing);
                    serving.email = lease.account.email.clone();
                    self.ask_program(chat, run, asked, &kept.program, (serving, Some(&lease)))?
                }
                None => self.ask_api(chat, run, asked, &lease, (refreshed, tries))?,
            };
            match next {
                Next::Done(given) => return Ok(ModelOutcome::Answer(given)),
                Next::Refresh(failure) => refresh = Some((lease, failure)),
                Next::Another if asked.profile.is_none() => {
                    if asked.has_others && run.is_others_turn(asked.model) {
                        return Ok(ModelOutcome::GaveWay);
                    }
                }
                Next::Another | Next::Model => return Ok(ModelOutcome::Nothing),
            }
        }
        Ok(ModelOutcome::Nothing)
    }

    /// The lease of the next try. After a refused token, it is to be the same account's with another token.
    fn lease_for(
        &self,
        chat: &Chat,
        run: &mut Run<'_>,
        asked: &Asked<'_>,
        kept: Option<&Kept>,
        refused: Option<(Lease, Failure)>,
    ) -> Result<Leased> {
        let old = refused.as_ref().map(|(lease, _)| lease);
        let request = AcquireRequest {
            rejected: old.map(|lease| lease.secret.clone()),
            request_id: Some(run.id),
            tried: run.tried(asked.model),
            wait: ACQUIRE_WAIT,
            cancel: Some(run.cancel.clone()),
            ..wish(chat, asked, kept, old.map(|lease| &lease.profile))
        };
        let acquired = self.acquire(&request);
        if acquired.is_err() && run.cancel.is_set() {
            return Err(given_up());
        }
        Ok(match (acquired, refused) {
            (Ok(lease), Some((old, failure))) if lease.secret == old.secret => {
                run.fail(asked.model, failure);
                Leased::Again
            }
            (Ok(lease), _) => Leased::Lease(Box::new(lease)),
            (Err(error), Some((_, failure))) => {
                // Why it could not be refreshed says more than the refusal that asked for it.
                let failure = Failure {
                    scope: Scope::Provider,
                    ..of_error(&error, failure.profile, failure.billing)
                };
                run.fail(asked.model, failure);
                Leased::Again
            }
            (Err(error), None) => {
                self.no_account(chat, run, asked, &error)?;
                Leased::Nobody
            }
        })
    }

    /// No account of a model can be used. What was tried already is not told again.
    fn no_account(&self, chat: &Chat, run: &mut Run<'_>, asked: &Asked<'_>, error: &SinkError) -> Result<()> {
        if error
            .profile()
            .is_some_and(|profile| run.has_tried(profile, asked.model))
        {
            return Ok(());
        }
        let snapshot = self.snapshot(chat.agent())?;
        let aliases = &snapshot.config.aliases;
        let those = snapshot.state.candidates.iter();
        let those = those.filter(|one| aliases.same(&one.facts.provider, &asked.model.provider));
        let billing = those.map(|one| one.billing).min();
        run.fail(asked.model, of_error(error, error.profile().cloned(), billing));
        Ok(())
    }

    fn class_of(&self, chat: &Chat, profile: &ProfileId) -> Result<BillingClass> {
        let snapshot = self.snapshot(chat.agent())?;
        let candidate = snapshot.state.candidate(profile);
        Ok(candidate.map_or(BillingClass::Subscription, |candidate| candidate.billing))
    }

    /// May this be spent after what the turn began with? Money is crossed only where the user allows it, and not while
    /// cheaper accounts are left of a model that gave way. `None` when it may.
    fn too_dear(
        &self,
        chat: &Chat,
        run: &mut Run<'_>,
        asked: &Asked<'_>,
        price: &Price<'_>,
    ) -> Result<Option<ModelOutcome>> {
        let Price { profile, billing, .. } = *price;
        let Some(cheapest) = run.cheapest.filter(|cheapest| billing > *cheapest) else {
            return Ok(None);
        };
        let crossing = (cheapest, billing);
        let is_allowed = self.unbounded_policy().allow_crossings.contains(&crossing);
        if is_allowed && asked.cheaper_waits {
            return Ok(Some(ModelOutcome::GaveWay));
        }
        if is_allowed && (price.is_counted || self.count_crossing()) {
            if let Some(profile) = profile {
                self.note_crossing(profile, crossing, chat.agent());
            }
            return Ok(None);
        }
        let who = profile.map_or_else(|| asked.model.to_string(), ToString::to_string);
        let dearer = format!("{who} costs more ({billing} instead of {cheapest})");
        let (text, fix, until) = if is_allowed {
            let (text, fix) = self.spent_in_words();
            (format!("{dearer}; {text}"), fix, Some(self.next_crossings()))
        } else {
            let fix = format!(
                "add \"{cheapest} -> {billing}\" to `allow` under [billing] in tokensink/config.toml"
            );
            (format!("{dearer} and is used only with your leave"), fix, None)
        };
        let failure = Failure {
            scope: Scope::Provider,
            profile: profile.cloned(),
            reason: Reason::Unclassified,
            text,
            until,
            billing: None,
            fix: Some(fix),
        };
        run.fail(asked.model, failure);
        Ok(Some(ModelOutcome::Nothing))
    }
}

/// What asking would cost.
struct Price<'a> {
    profile: Option<&'a ProfileId>,
    billing: BillingClass,
    /// The lease was counted among the calls that cost more by the user's leave.
    is_counted: bool,
}

impl<'a> Price<'a> {
    fn of(profile: Option<&'a ProfileId>, billing: BillingClass) -> Self {
        Self {
            profile,
            billing,
            is_counted: false,
        }
    }
}

/// What is asked of the sink for one model.
fn wish(chat: &Chat, asked: &Asked<'_>, kept: Option<&Kept>, only: Option<&ProfileId>) -> AcquireRequest {
    let want = match only.or(asked.profile) {
        Some(profile) => Want::Profile(profile.clone()),
        None => Want::Provider(asked.model.provider.to_string()),
    };
    let preferred = kept.filter(|kept| kept.preferred && !kept.only_program);
    let mut request = AcquireRequest::new(chat.agent().clone(), want);
    request.model = Some(asked.model.model.clone());
    request.session = chat.session().cloned();
    request.preferred = preferred.map(|kept| kept.profile.clone());
    request
}

/// What is told where nobody could be asked.
fn of_error(error: &SinkError, profile: Option<ProfileId>, billing: Option<BillingClass>) -> Failure {
    Failure {
        scope: Scope::Nothing,
        profile,
        reason: match error.kind() {
            ErrorKind::LoginNeeded => Reason::Auth,
            _ => error.reason().unwrap_or(Reason::Unclassified),
        },
        text: error.to_string(),
        until: error.retry_at(),
        billing,
        fix: error.fix().map(str::to_owned),
    }
}
