//! Answers of the token endpoint that are none, or not the right ones.

use std::time::Duration;

use tokensink_authserver::{Endpoint, Fault, FaultAction, GrantType};
use tokensink_types::Secret;

use super::ordinary::EXPIRED;
use crate::client::Stored;
use crate::report::Verdict;
use crate::stage::{Findings, Stage};
use crate::world::{STRANGER, Trouble};

/// How many refreshes in a row a fault hits: more than one try.
const TIMES: u32 = 2;
/// How long a program may take to come back after a fault that is over.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
/// Seconds that a server asks for.
const RETRY_AFTER: u64 = 5;
/// Bytes of an answer that arrive: its head and the beginning of its body.
const ARRIVED: usize = 250;

/// A fault of the token endpoint that passes, on a login whose access token has run out. Right is: nothing stored is
/// lost, nobody is asked to log in, and the login works when the fault is over.
pub(super) fn passing(stage: &mut Stage<'_>, fault: Fault) -> Result<Verdict, Trouble> {
    stage.log_in(EXPIRED)?;
    stage.world.fault(fault);
    let first = stage.use_once()?;
    let kept = stage.stored()?;
    let mut findings = Findings::default();
    let asked = stage.refreshes_asked();
    findings
        .expect(asked > 0, || "no refresh request came".to_owned())
        .expect(first.used != crate::client::Used::LoginNeeded, || {
            "it asked for a new login".to_owned()
        })
        .not_blank(&kept);
    let (last, more) = if first.is_served() {
        (first, 0)
    } else {
        stage.use_until_served(PATIENCE)?
    };
    let ledger = stage.ledger();
    findings
        .served(&format!("after {} uses", more + 1), &last)
        .no_reuse(&ledger);
    if last.is_served() {
        findings.newest_stored(&ledger, &stage.stored()?);
    }
    let came = ledger.posts(GrantType::RefreshToken);
    Ok(findings.verdict(format!(
        "served at use {}, after {came} refresh requests",
        more + 1
    )))
}

pub(super) fn status<const STATUS: u16>(stage: &mut Stage<'_>) -> Result<Verdict, Trouble> {
    let action = FaultAction::Status {
        status: STATUS,
        body: "<html><body>Something went wrong.</body></html>".to_owned(),
    };
    passing(stage, Fault::on_refresh(action).times(TIMES))
}

pub(super) fn retry_after(stage: &mut Stage<'_>) -> Result<Verdict, Trouble> {
    let action = FaultAction::RetryAfter {
        seconds: RETRY_AFTER,
        status: 429,
    };
    let verdict = passing(stage, Fault::on_refresh(action))?;
    let Verdict::Passed(seen) = verdict else {
        return Ok(verdict);
    };
    let ledger = stage.ledger();
    let times: Vec<i64> = ledger
        .requests_to(Endpoint::Token)
        .map(|request| request.at)
        .collect();
    let gap = times.windows(2).next().map_or(0, |pair| pair[1] - pair[0]);
    let wanted = i64::try_from(RETRY_AFTER * 1000).unwrap_or(i64::MAX);
    let mut findings = Findings::default();
    findings.expect(gap >= wanted, || {
        format!("the server asked for {RETRY_AFTER} s, and the next request came after {gap} ms")
    });
    Ok(findings.verdict(format!("{seen}; the next request came after {gap} ms")))
}

pub(super) fn page(stage: &mut Stage<'_>) -> Result<Verdict, Trouble> {
    passing(
        stage,
        Fault::on_refresh(FaultAction::Garbage { handled: false }).times(TIMES),
    )
}

fn whole_200(stage: &mut Stage<'_>, body: &str) -> Result<Verdict, Trouble> {
    let action = FaultAction::Status {
        status: 200,
        body: body.to_owned(),
    };
    passing(stage, Fault::on_refresh(action).times(TIMES))
}

pub(super) fn empty(stage: &mut Stage<'_>) -> Result<Verdict, Trouble> {
    whole_200(stage, "")
}

pub(super) fn no_tokens(stage: &mut Stage<'_>) -> Result<Verdict, Trouble> {
    whole_200(stage, r#"{"token_type": "Bearer", "expires_in": 3600}"#)
}

pub(super) fn cut_short(stage: &mut Stage<'_>) -> Result<Verdict, Trouble> {
    passing(
        stage,
        Fault::on_refresh(FaultAction::CutAfterBytes { bytes: ARRIVED }),
    )
}

pub(super) fn another_account(stage: &mut Stage<'_>) -> Result<Verdict, Trouble> {
    stage.log_in(EXPIRED)?;
    stage.world.fault(Fault::on_refresh(FaultAction::WrongAccount {
        account: STRANGER.to_owned(),
    }));
    let one = stage.use_once()?;
    let stored = stage.stored()?;
    let accounts: Vec<_> = stage.world.calls().into_iter().map(|call| call.account).collect();
    let held = match &stored {
        Stored::Login { access, .. } => access.as_ref().and_then(|token| owner(stage, token)),
        Stored::Nothing | Stored::Unreadable(_) => None,
    };
    let mut findings = Findings::default();
    findings
        .expect(stage.refreshes_asked() > 0, || {
            "no refresh request came".to_owned()
        })
        .no_stranger(&accounts)
        .expect(held.as_deref() != Some(STRANGER), || {
            "the other account's token was stored in this one's place".to_owned()
        });
    Ok(findings.verdict(format!("the answer was not used: {}", one.told())))
}

fn owner(stage: &Stage<'_>, token: &Secret) -> Option<String> {
    stage.world.account_of(token)
}

pub(super) fn redirect(stage: &mut Stage<'_>) -> Result<Verdict, Trouble> {
    let location = stage.world.trap_url();
    let action = FaultAction::Redirect { location };
    let verdict = passing(stage, Fault::on_refresh(action).times(TIMES))?;
    let trapped = stage.world.trapped();
    let mut findings = Findings::default();
    let tokens = trapped
        .iter()
        .filter(|body| body.contains("refresh_token"))
        .count();
    findings.expect(trapped.is_empty(), || {
        format!(
            "{} requests followed the redirect, {tokens} of them with the refresh token",
            trapped.len()
        )
    });
    match verdict {
        Verdict::Passed(seen) => Ok(findings.verdict(seen)),
        // What was given away weighs more than what did not work afterwards.
        other if trapped.is_empty() => Ok(other),
        _ => Ok(findings.verdict("")),
    }
}
