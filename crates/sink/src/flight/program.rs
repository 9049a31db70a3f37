//! A refresh that a plugin's program makes. Starting it is the connection, which is free; from the first byte of the
//! request on the outcome is unknown until the program has said it.

use std::time::Duration;

use tokensink_providers::plugin::protocol::{Action, Answered, Fault, FaultKind};
use tokensink_refresh::{Answer, Event, Failure};
use tokensink_types::record::Generation;

use super::Hands;
use crate::plugins::{About, Ended, Job, Session, Unsent};
use crate::refresher::Program;

impl Hands<'_> {
    /// Starts the program and hears its hello.
    pub(super) fn start(&self, program: &Program<'_>) -> Result<Session, Event> {
        let job = Job {
            plugin: program.plugin,
            provider: &self.definition.id,
            method: program.method,
            action: Action::Refresh,
        };
        self.sink.start_program(&job).map_err(|unusable| {
            let login = format!("tokensink models auth login --provider {}", self.definition.id);
            Event::Failed(Failure {
                reason: unusable.reason,
                fix: Some(unusable.fix.unwrap_or(login)),
            })
        })
    }

    /// Has the program spend the refresh token.
    pub(super) fn ask(&self, mut session: Session, generation: &Generation) -> Answer {
        let host = self.sink.host();
        let sent_at = self.sink.now();
        let about = About {
            profile: Some(&self.target.profile),
            tokens: Some(&generation.tokens),
            account: Some(&generation.account),
            fields: Some(&generation.fields),
            interactive: false,
        };
        match session.request(host, &about) {
            Ok(()) => {}
            Err(Unsent::Nothing(reason)) => return Answer::NotWritten(failure(reason)),
            Err(Unsent::Perhaps(reason)) => return Answer::Ambiguous(failure(reason)),
        }
        let answered = match session.outcome(host) {
            Ok(answered) => answered,
            Err(Ended::Fault(fault)) => return reported(&fault),
            Err(Ended::Broken(reason)) => return Answer::Ambiguous(failure(reason)),
        };
        if let Some(reason) = self.answers_for_another(&answered) {
            return Answer::Ambiguous(failure(reason));
        }
        match answered.into_grant(sent_at) {
            Ok(grant) => Answer::Granted(Box::new(self.merge(generation, &grant, sent_at))),
            Err(error) => Answer::Ambiguous(failure(error.to_string())),
        }
    }

    fn answers_for_another(&self, answered: &Answered) -> Option<String> {
        let said = answered.profile()?;
        (said != self.target.profile.as_str())
            .then(|| "the plugin answered for another profile than it was asked for".to_owned())
    }
}

/// What a program that could not refresh says of the token. Only what it says in so many words is believed: an
/// error after which nothing was spent, or the end of the grant.
fn reported(fault: &Fault) -> Answer {
    let failure = failure(format!("the plugin says: {fault}"));
    let unspent = |retry_after: Option<Duration>| Answer::Unspent {
        failure: failure.clone(),
        retry_after,
    };
    match fault.kind {
        FaultKind::Terminal => Answer::Refused {
            code: "terminal".to_owned(),
            description: fault.message.clone(),
        },
        FaultKind::NotSupported => Answer::Refused {
            code: "not_supported".to_owned(),
            description: fault.message.clone(),
        },
        FaultKind::Transient if !fault.unspent => Answer::Ambiguous(failure),
        FaultKind::Transient | FaultKind::Denied | FaultKind::Usage => unspent(fault.retry_after),
    }
}

fn failure(reason: String) -> Failure {
    Failure { reason, fix: None }
}
