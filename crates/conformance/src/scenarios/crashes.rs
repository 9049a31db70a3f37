//! Processes that die in the middle, with everything that they started.

use std::slice;
use std::time::Duration;

use tokensink_authserver::{Fault, FaultAction};

use super::ordinary::EXPIRED;
use crate::report::Verdict;
use crate::stage::{Findings, Stage};
use crate::world::Trouble;

/// How long a program may take to come back after its death: locks of the dead must be recognised.
const PATIENCE: Duration = Duration::from_secs(100);
/// The first death after an answer; each further one comes four times later.
const FIRST_MOMENT: Duration = Duration::from_millis(1);
/// As late as that at most: 256 ms.
const LAST_POWER: u32 = 4;

pub(super) fn during_the_request(stage: &mut Stage<'_>) -> Result<Verdict, Trouble> {
    stage.log_in(EXPIRED)?;
    stage.world.fault(Fault::on_refresh(FaultAction::Hold));
    let mut process = stage.start()?;
    if !stage.wait_until_held(slice::from_mut(&mut process)) {
        return Ok(Verdict::Failed("no refresh request came".to_owned()));
    }
    let killed = stage.kill();
    drop(process);
    stage.world.faults().release();
    let mut findings = Findings::default();
    findings.not_blank(&stage.stored()?);
    let began = stage.host.clock.monotonic();
    let (last, uses) = stage.use_until_served(PATIENCE)?;
    let took = stage.host.clock.monotonic().saturating_sub(began);
    let ledger = stage.ledger();
    findings
        .served(&format!("after {uses} uses"), &last)
        .no_reuse(&ledger);
    if last.is_served() {
        findings.newest_stored(&ledger, &stage.stored()?);
    }
    Ok(findings.verdict(format!(
        "{killed} processes killed; the login worked again after {} ms",
        took.as_millis()
    )))
}

pub(super) fn at_any_moment(stage: &mut Stage<'_>) -> Result<Verdict, Trouble> {
    // How long a whole use takes, to spread deaths over it.
    stage.log_in(EXPIRED)?;
    let whole = stage.use_once()?;
    let mut findings = Findings::default();
    findings.served("a use that nobody disturbs", &whole);
    let rounds = u32::try_from(stage.client.crowd()).unwrap_or(1).max(4);
    let mut lost = Vec::new();
    for round in 0..rounds {
        let home = stage.new_home(&format!("round-{round}"))?;
        stage.log_in_at(&home, EXPIRED)?;
        // Half of the deaths fall anywhere; the others soon after the answer, when only the process knows the token.
        let moment = if round % 2 == 0 {
            let moment = whole.ended.took * (round + 1) / (rounds + 1);
            let process = stage.start_at(&home)?;
            stage.host.clock.sleep(moment);
            stage.kill();
            drop(process);
            format!("{} ms after its start", moment.as_millis())
        } else {
            let moment = FIRST_MOMENT * 4_u32.pow((round / 2).min(LAST_POWER));
            stage.world.fault(Fault::on_refresh(FaultAction::Hold));
            let mut process = stage.start_at(&home)?;
            if !stage.wait_until_held(slice::from_mut(&mut process)) {
                return Ok(Verdict::Failed("no refresh request came".to_owned()));
            }
            stage.world.faults().release();
            stage.host.clock.sleep(moment);
            stage.kill();
            drop(process);
            format!("{} ms after the answer", moment.as_millis())
        };
        let before = std::mem::replace(&mut stage.home, home);
        let (last, _) = stage.use_until_served(PATIENCE)?;
        stage.home = before;
        if !last.is_served() {
            lost.push(format!("killed {moment}: {}", last.told()));
        }
    }
    findings.expect(lost.is_empty(), || {
        format!("{} of {rounds} logins were lost; {}", lost.len(), lost.join("; "))
    });
    findings.no_reuse(&stage.ledger());
    Ok(findings.verdict(format!("{rounds} deaths, no login lost")))
}
