//! What can go wrong between a program and the token endpoint.

use std::slice;
use std::time::Duration;

use tokensink_authserver::{Fault, FaultAction};

use super::answers::{PATIENCE, passing};
use super::ordinary::EXPIRED;
use crate::client::Used;
use crate::home::Endpoints;
use crate::report::Verdict;
use crate::stage::{Findings, Stage, Use};
use crate::world::Trouble;

/// A token with so many seconds left is due for a refresh and still lives.
const ENDING: i64 = 120;
/// How long an answer is held back at least.
const SLOW: Duration = Duration::from_secs(10);
/// How long it is held back at most: programs give up on an answer after 30 s, and one that did has every right to ask
/// again.
const HELD_AT_MOST: Duration = Duration::from_secs(20);
/// A token endpoint whose name no server has (RFC 6761 section 6.4), and a proxy of that kind.
const NO_NAME: [&str; 2] = ["https://kit.invalid/oauth/token", "http://kit.invalid:3128"];

pub(super) fn refused(stage: &mut Stage<'_>) -> Result<Verdict, Trouble> {
    stage.log_in(EXPIRED)?;
    stage.world.hang_up();
    let during = stage.use_once();
    stage.world.come_back()?;
    away(stage, &during?.used)
}

pub(super) fn no_name(stage: &mut Stage<'_>) -> Result<Verdict, Trouble> {
    stage.log_in(EXPIRED)?;
    let right = stage.home.endpoints.clone();
    let [token, proxy] = NO_NAME;
    if stage.is_direct() {
        token.clone_into(&mut stage.home.endpoints.token);
    } else {
        // It leaves names to its proxy, so it is the proxy's own that does not resolve.
        stage.home.endpoints.proxy = Some(proxy.to_owned());
    }
    elsewhere(stage, right)
}

pub(super) fn no_tls(stage: &mut Stage<'_>) -> Result<Verdict, Trouble> {
    stage.log_in(EXPIRED)?;
    let right = stage.home.endpoints.clone();
    if stage.is_direct() {
        // What listens there does not speak TLS.
        stage.home.endpoints.token = right.token.replace("http://", "https://");
    }
    stage.world.set_trusted(false);
    elsewhere(stage, right)
}

/// No connection comes about at the present endpoints, for one use; at the right ones it would.
fn elsewhere(stage: &mut Stage<'_>, right: Endpoints) -> Result<Verdict, Trouble> {
    stage.client.configure(&stage.home)?;
    let during = stage.use_once()?;
    stage.home.endpoints = right;
    stage.client.configure(&stage.home)?;
    stage.world.set_trusted(true);
    away(stage, &during.used)
}

/// No connection came about during one use; now it would.
fn away(stage: &mut Stage<'_>, during: &Used) -> Result<Verdict, Trouble> {
    let mut findings = Findings::default();
    findings
        .expect(*during != Used::LoginNeeded, || {
            "it asked for a new login".to_owned()
        })
        .expect(*during != Used::Served, || {
            "it says that it was served, and it was not".to_owned()
        })
        .not_blank(&stage.stored()?);
    let (last, uses) = stage.use_until_served(PATIENCE)?;
    let ledger = stage.ledger();
    findings
        .served("afterwards", &last)
        .no_reuse(&ledger)
        .newest_stored(&ledger, &stage.stored()?);
    Ok(findings.verdict(format!("the login was kept; use {uses} afterwards was served")))
}

pub(super) fn cut_before(stage: &mut Stage<'_>) -> Result<Verdict, Trouble> {
    passing(stage, Fault::on_refresh(FaultAction::CutBeforeHandling))
}

pub(super) fn answer_lost(stage: &mut Stage<'_>) -> Result<Verdict, Trouble> {
    passing(stage, Fault::on_refresh(FaultAction::CutBeforeAnswer))
}

pub(super) fn slow(stage: &mut Stage<'_>) -> Result<Verdict, Trouble> {
    stage.log_in(ENDING)?;
    stage.world.fault(Fault::on_refresh(FaultAction::Hold));
    let mut process = stage.start()?;
    let mut findings = Findings::default();
    if !stage.wait_until_held(slice::from_mut(&mut process)) {
        let one = stage.end_of(process);
        findings.served("the use", &one);
        return Ok(findings.verdict("it uses a token to its end and refreshes nothing before"));
    }
    let second = while_held(stage)?;
    if let Some(second) = &second {
        findings
            .served("a second use while the answer is held back", second)
            .asked(&stage.ledger(), 1);
    }
    stage.world.faults().release();
    let first = stage.end_of(process);
    findings.served("the use whose answer was held back", &first);
    let last = stage.use_once()?;
    let ledger = stage.ledger();
    findings.served("a use afterwards", &last).no_reuse(&ledger);
    let settled = stage.wait_until(|| {
        stage.stored().is_ok_and(|stored| {
            stored.refresh() == ledger.families.last().map(|family| family.current.clone())
        })
    });
    findings.expect(settled, || "the answer that came late was not stored".to_owned());
    let took = match second {
        Some(second) => second.ended.took,
        // Blocked or only slow: what a use takes now that nothing is held back tells one from the other.
        None if last.ended.took * 2 > HELD_AT_MOST => return Err(too_busy(last.ended.took)),
        None => Duration::MAX,
    };
    findings.expect(took < HELD_AT_MOST, || {
        format!(
            "a second use did not end within {} s although the token lives",
            HELD_AT_MOST.as_secs()
        )
    });
    Ok(findings.verdict(format!(
        "a second use was served in {} ms while the first one's refresh took {} s",
        took.as_millis(),
        SLOW.as_secs()
    )))
}

/// A use while an answer is held back, for as long as the answer can be held; `None` where it did not end by then and
/// was killed.
fn while_held(stage: &mut Stage<'_>) -> Result<Option<Use>, Trouble> {
    let began = stage.host.clock.monotonic();
    let passed = |stage: &Stage<'_>| stage.host.clock.monotonic().saturating_sub(began);
    let mut process = stage.start()?;
    let is_late = stage.wait_for(slice::from_mut(&mut process), || passed(stage) > HELD_AT_MOST);
    if is_late {
        return Ok(None);
    }
    let second = stage.end_of(process);
    stage.host.clock.sleep(SLOW.saturating_sub(passed(stage)));
    Ok(Some(second))
}

fn too_busy(alone: Duration) -> Trouble {
    Trouble(format!(
        "this host is too busy: a use that nothing disturbs takes {} s, and an answer cannot be held back for longer \
         than {} s; play it again with --jobs 1",
        alone.as_secs(),
        HELD_AT_MOST.as_secs()
    ))
}
