//! One attempt of a turn: the API with a lease, or a program; and what comes after one that failed.

use http::HeaderMap;
use tokensink_policy::bench::PROBE_PULSE;
use tokensink_policy::chain::{self, Model};
use tokensink_policy::classify::{self, Class, ErrorText, Reason};
use tokensink_policy::failover::{self, Attempted, Happened, Step};
use tokensink_types::{BillingClass, Body, CredentialKind, ProfileId};

use super::build::{Message, Role, build};
use super::call::{Call, Called};
use super::decode::Usage;
use super::program::{Program, Ran, Turn};
use super::run::{Failure, Run, Scope};
use super::turn::Asked;
use super::{Chat, Serving, words};
use crate::block::paste_command;
use crate::calls::{CallOutcome, Proof, Reported};
use crate::error::{ErrorKind, Result, SinkError};
use crate::lease::Lease;
use crate::sink::Sink;

/// Most text of earlier messages that goes with a question, in bytes: about what the largest models take.
const SENT_BYTES: usize = 1 << 20;

/// An answer that came whole.
pub(super) struct Given {
    pub(super) serving: Serving,
    pub(super) usage: Usage,
    pub(super) stop: Option<String>,
    /// The name of the conversation in the program that answered.
    pub(super) program_session: Option<String>,
}

/// What comes after a call.
pub(super) enum Next {
    Done(Given),
    /// The same account, after a refresh; the failure counts if that comes to nothing.
    Refresh(Failure),
    /// Another account.
    Another,
    /// Another model.
    Model,
}

impl Sink {
    /// Asks the API that the lease is for.
    pub(super) fn ask_api(
        &self,
        chat: &Chat,
        run: &mut Run<'_>,
        asked: &Asked<'_>,
        lease: &Lease,
        (refreshed, tries): (bool, u32),
    ) -> Result<Next> {
        let kind = self.api_kind(chat, lease)?;
        let messages = conversation(chat, run.prompt);
        let built = build(kind, &asked.model.model, &messages).filter(|_| !lease.headers.is_empty());
        let Some(built) = built.filter(|_| lease.base_url.is_some()) else {
            self.tell_report(lease, &CallOutcome::Abandoned);
            run.fail(asked.model, unspeakable(lease));
            return Ok(Next::Model);
        };
        let serving = Serving {
            model: asked.model.to_string(),
            profile: Some(lease.profile.clone()),
            email: lease.account.email.clone(),
            billing: lease.billing,
            program: None,
        };
        self.rest(run, Some(lease))?;
        run.asks(&serving, chat.serving());
        let call = Call {
            host: self.host(),
            kind,
            built: &built,
            lease,
            cancel: run.cancel,
        };
        let mut served = |headers: &HeaderMap| {
            let proof = Proof::Begun;
            self.tell_report(lease, &CallOutcome::Served { headers, proof });
        };
        let testing = self.keep_testing(lease, PROBE_PULSE);
        let called = call.make(&mut served, &mut |text| run.say(text));
        drop(testing);
        let refreshed = refreshed || lease.kind == CredentialKind::ApiKey;
        match called {
            Called::Answered { usage, stop } => {
                self.tell_report(lease, &CallOutcome::Finished);
                Ok(Next::Done(Given {
                    serving,
                    usage,
                    stop,
                    program_session: None,
                }))
            }
            Called::GivenUp => {
                self.tell_report(lease, &CallOutcome::Abandoned);
                Err(given_up())
            }
            ref other => self.go_on_after(run, asked, (&serving, Some(lease)), other, (refreshed, tries)),
        }
    }

    /// Waits where that is due before somebody else is asked; a lease is given back when the turn is given up meanwhile.
    fn rest(&self, run: &mut Run<'_>, lease: Option<&Lease>) -> Result<()> {
        run.take_rest(&*self.host().clock).inspect_err(|_| {
            lease.and_then(|lease| self.tell_report(lease, &CallOutcome::Abandoned));
        })
    }

    /// Runs a program that asks with its own login.
    pub(super) fn ask_program(
        &self,
        chat: &Chat,
        run: &mut Run<'_>,
        asked: &Asked<'_>,
        program: &Program,
        (serving, lease): (Serving, Option<&Lease>),
    ) -> Result<Next> {
        self.rest(run, lease)?;
        run.asks(&serving, chat.serving());
        let total = chat.transcript.total();
        let known = chat
            .transcript
            .program
            .as_ref()
            .filter(|known| known.seen == total);
        let mut resume = known.map(|known| known.id.clone());
        let _testing = lease.and_then(|lease| self.keep_testing(lease, PROBE_PULSE));
        let ran = loop {
            let prompt = match resume {
                Some(_) => run.prompt.to_owned(),
                None => retold(&conversation(chat, run.prompt)),
            };
            let turn = Turn {
                program,
                agent: chat.agent(),
                model: &asked.model.model,
                prompt: &prompt,
                resume: resume.as_deref(),
                cancel: run.cancel,
            };
            match self.run_program(&turn, &mut |text| run.say(text))? {
                Ran::NoSuchSession if resume.take().is_some() => {}
                ran => break ran,
            }
        };
        let outcome = match ran {
            Ran::Answered { usage, session } => {
                if let Some(lease) = lease {
                    let outcome = CallOutcome::Served {
                        headers: &HeaderMap::new(),
                        proof: Proof::Whole,
                    };
                    self.tell_report(lease, &outcome);
                }
                return Ok(Next::Done(Given {
                    serving,
                    usage,
                    stop: None,
                    program_session: session.or(resume),
                }));
            }
            Ran::GivenUp => {
                lease.and_then(|lease| self.tell_report(lease, &CallOutcome::Abandoned));
                return Err(given_up());
            }
            Ran::Failed(failure) => Called::Refused {
                status: failure.status,
                headers: failure.headers,
                body: failure.body,
            },
            Ran::NoSuchSession => Called::NotSent("it does not find its own conversation".to_owned()),
            Ran::NotThere(cause) => Called::NotSent(cause),
            Ran::Broke(cause) => Called::CutOff(cause),
        };
        // It refreshes its login by itself.
        self.go_on_after(run, asked, (&serving, lease), &outcome, (true, 0))
    }

    /// What comes after a call that was not answered: reported, then decided by the rules of failover.
    fn go_on_after(
        &self,
        run: &mut Run<'_>,
        asked: &Asked<'_>,
        (serving, lease): (&Serving, Option<&Lease>),
        called: &Called,
        (refreshed, tries): (bool, u32),
    ) -> Result<Next> {
        let Some(came) = self.judged(asked, lease, called) else {
            return Ok(Next::Model);
        };
        if !run.shown.is_empty() || matches!(came.happened, Happened::TimedOut | Happened::CutOff) {
            return Err(broken(serving, &came.text));
        }
        let attempted = Attempted {
            head_sent: false,
            replayable: true,
            refreshed,
            tries,
        };
        let step = failover::next(&came.happened, &attempted);
        let (happened, reason) = (came.happened, came.reason);
        let failure = self.failure(came, serving, lease);
        Ok(match step {
            Step::RefreshAndRepeat => Next::Refresh(failure),
            Step::TryAnother => {
                run.fail(asked.model, failure);
                // Where no connection comes about, it does not for another account of the provider either.
                match happened {
                    Happened::NotConnected => Next::Model,
                    _ => Next::Another,
                }
            }
            Step::PassOn => {
                let words = format!("{}: {}", serving.model, failure.text);
                run.fail(asked.model, failure);
                if !chain::goes_on(reason) {
                    return Err(SinkError::new(ErrorKind::Failed, "context_overflow", words)
                        .with_fix("type /new to begin a new conversation, or shorten the question"));
                }
                Next::Model
            }
        })
    }

    /// Reports a call that was not answered, and says what it means. `None` where nothing failed.
    fn judged(&self, asked: &Asked<'_>, lease: Option<&Lease>, called: &Called) -> Option<Came> {
        let told = |outcome: &CallOutcome<'_>| lease.and_then(|lease| self.tell_report(lease, outcome));
        let unanswered = |happened, outcome: &CallOutcome<'_>, cause: &str| {
            told(outcome);
            Came {
                happened,
                reported: None,
                reason: Reason::Timeout,
                text: cause.to_owned(),
            }
        };
        Some(match called {
            Called::Refused {
                status,
                headers,
                body,
            } => {
                let reported = told(&CallOutcome::Failed {
                    status: *status,
                    headers,
                    body: body.expose(),
                });
                let class = reported.as_ref().and_then(|reported| reported.class);
                let class = class.or_else(|| self.class_without_lease(asked, *status, body));
                let class = class.unwrap_or(UNCLASSIFIED);
                let status = status.unwrap_or_else(|| status_of(class.reason));
                let secret = lease.map(|lease| &lease.secret);
                Came {
                    happened: Happened::Answered { status, class },
                    reported,
                    reason: class.reason,
                    text: words::of_refusal(status, body.expose(), secret),
                }
            }
            Called::NotSent(cause) => {
                let outcome = CallOutcome::NotConnected { error: cause };
                unanswered(Happened::NotConnected, &outcome, cause)
            }
            Called::TimedOut(cause) => unanswered(Happened::TimedOut, &CallOutcome::TimedOut, cause),
            Called::CutOff(cause) => unanswered(Happened::CutOff, &CallOutcome::CutOff, cause),
            Called::Answered { .. } | Called::GivenUp => return None,
        })
    }

    /// What is told of it.
    fn failure(&self, came: Came, serving: &Serving, lease: Option<&Lease>) -> Failure {
        let refused = matches!(came.reason, Reason::Auth | Reason::AuthPermanent);
        // An account that was refused is tried again some time, but no waiting helps it.
        let bench = came
            .reported
            .and_then(|reported| reported.bench)
            .filter(|_| !refused);
        let scope = match came.happened {
            Happened::NotConnected => Scope::Provider,
            _ => Scope::of(came.reason),
        };
        Failure {
            scope,
            profile: serving.profile.clone(),
            reason: came.reason,
            text: came.text,
            until: bench.map(|bench| bench.until),
            billing: Some(serving.billing),
            fix: refused.then(|| self.login_fix(serving, lease)),
        }
    }

    /// The command that gives a refused account a new credential.
    fn login_fix(&self, serving: &Serving, lease: Option<&Lease>) -> String {
        match (lease, &serving.program) {
            (_, Some(program)) => format!("{program} auth login"),
            (Some(lease), None) if lease.kind != CredentialKind::OAuth => {
                paste_command(&lease.provider, &lease.profile, lease.kind, &lease.owner)
            }
            (Some(lease), None) => self.first_login_command(&lease.provider, &lease.owner),
            (None, None) => "tokensink models status".to_owned(),
        }
    }

    /// Reports; what cannot be written down is no reason to give up an answer.
    pub(super) fn tell_report(&self, lease: &Lease, outcome: &CallOutcome<'_>) -> Option<Reported> {
        match self.report(lease, outcome) {
            Ok(reported) => Some(reported),
            Err(error) => {
                tracing::warn!(profile = %lease.profile, %error, "the outcome of a call is not noted");
                None
            }
        }
    }

    fn class_without_lease(&self, asked: &Asked<'_>, status: Option<u16>, body: &Body) -> Option<Class> {
        classify::classify(&classify::Failure {
            provider: &asked.model.provider,
            status,
            text: &ErrorText::of_body(body.expose()),
        })
    }
}

/// What a call came to that was not answered.
struct Came {
    happened: Happened,
    reported: Option<Reported>,
    reason: Reason,
    /// Without secrets.
    text: String,
}

const UNCLASSIFIED: Class = Class {
    reason: Reason::Unclassified,
    rule: "unclassified",
};

/// The status that an API answers with for what it told inside a stream.
fn status_of(reason: Reason) -> u16 {
    match reason {
        Reason::Auth => 401,
        Reason::AuthPermanent | Reason::Refused | Reason::NotPermitted => 403,
        Reason::Billing => 402,
        Reason::RateLimit => 429,
        Reason::Overloaded => 503,
        Reason::ModelNotFound => 404,
        Reason::ContextOverflow | Reason::Format | Reason::SessionExpired => 400,
        Reason::Timeout | Reason::NoErrorDetails | Reason::Unclassified => 500,
    }
}

pub(super) fn by_program(
    model: &Model,
    program: &Program,
    profile: Option<&ProfileId>,
    billing: BillingClass,
) -> Serving {
    Serving {
        model: model.to_string(),
        profile: profile.cloned(),
        email: None,
        billing,
        program: Some(program.name().to_owned()),
    }
}

/// What was said so far, as much as is sent, with the question at its end.
fn conversation(chat: &Chat, prompt: &str) -> Vec<Message> {
    let mut room = SENT_BYTES.saturating_sub(prompt.len());
    let fits = |message: &&Message| {
        let fits = message.text.len() <= room;
        room = room.saturating_sub(message.text.len());
        fits
    };
    let known = &chat.transcript.messages;
    let count = known.iter().rev().take_while(fits).count();
    let recent = &known[known.len() - count..];
    // An answer without its question is none.
    let begin = recent.iter().position(|message| message.role == Role::User);
    let mut messages = begin.map_or_else(Vec::new, |begin| recent[begin..].to_vec());
    messages.push(Message {
        role: Role::User,
        text: prompt.to_owned(),
    });
    messages
}

/// A conversation as one prompt, for a program that does not know it.
fn retold(messages: &[Message]) -> String {
    let Some((question, before)) = messages.split_last() else {
        return String::new();
    };
    if before.is_empty() {
        return question.text.clone();
    }
    let mut text = "This conversation began elsewhere. What was said so far:\n".to_owned();
    for message in before {
        let who = match message.role {
            Role::User => "User",
            Role::Assistant => "You",
        };
        text.push_str(&format!("\n{who}: {}\n", message.text));
    }
    text.push_str(&format!("\nThe user now says:\n\n{}", question.text));
    text
}

fn unspeakable(lease: &Lease) -> Failure {
    Failure {
        scope: Scope::Provider,
        profile: Some(lease.profile.clone()),
        reason: Reason::Unclassified,
        text: format!("it is not known how models of {} are asked", lease.provider),
        until: None,
        billing: Some(lease.billing),
        fix: Some(format!("tokensink providers show {}", lease.provider)),
    }
}

pub(super) fn given_up() -> SinkError {
    SinkError::new(ErrorKind::Failed, "cancelled", "the answer was given up")
}

fn broken(serving: &Serving, text: &str) -> SinkError {
    let profile = serving.profile.as_ref();
    let who = profile.map_or_else(String::new, |profile| format!(" ({profile})"));
    let message = format!(
        "{}{who} did not answer to the end: {text}. It is not asked again by itself, since the answer may be billed already",
        serving.model
    );
    let error = SinkError::new(ErrorKind::Failed, "answer_broken", message);
    match profile {
        Some(profile) => error.about(profile),
        None => error,
    }
}
