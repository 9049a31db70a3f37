//! Refusals, and when to believe them.

use std::slice;

use super::ordinary::EXPIRED;
use crate::client::Used;
use crate::report::Verdict;
use crate::stage::{Findings, Stage};
use crate::world::Trouble;

pub(super) fn invalid_grant(stage: &mut Stage<'_>) -> Result<Verdict, Trouble> {
    let tokens = stage.log_in(EXPIRED)?;
    stage.world.revoke();
    let one = stage.use_once()?;
    let mut findings = Findings::default();
    findings
        .expect(stage.refreshes_asked() > 0, || {
            "no refresh request came".to_owned()
        })
        .expect(one.used == Used::LoginNeeded, || {
            format!("it does not say that a login is needed: {}", one.told())
        })
        .still_stored(&tokens, &stage.stored()?);
    Ok(findings.verdict("it asked for a new login, and the stored secrets are still there"))
}

pub(super) fn not_again(stage: &mut Stage<'_>) -> Result<Verdict, Trouble> {
    stage.log_in(EXPIRED)?;
    stage.world.revoke();
    stage.use_once()?;
    let at_first = stage.refreshes_asked();
    stage.use_once()?;
    stage.use_once()?;
    let in_all = stage.refreshes_asked();
    let mut findings = Findings::default();
    findings
        .expect(at_first > 0, || "no refresh request came".to_owned())
        .expect(at_first <= 1, || format!("{at_first} requests in the first use"))
        .expect(in_all == at_first, || {
            format!(
                "two further uses sent the dead token {} times more",
                in_all - at_first
            )
        });
    Ok(findings.verdict("three uses, one refresh request"))
}

pub(super) fn lost_race(stage: &mut Stage<'_>) -> Result<Verdict, Trouble> {
    let tokens = stage.log_in(EXPIRED)?;
    stage.world.stop_the_next();
    let mut process = stage.start()?;
    if !stage.wait_for(slice::from_mut(&mut process), || stage.world.has_stopped()) {
        return Ok(Verdict::Failed("no refresh request came".to_owned()));
    }
    // Somebody else was faster, and its login stands in the store before the refusal arrives.
    let newer = stage.world.spend(&tokens)?;
    let home = stage.home.clone();
    stage.put(&home, &newer)?;
    stage.world.go_on();
    let first = stage.end_of(process);
    let second = stage.use_once()?;
    let mut findings = Findings::default();
    findings
        .expect(first.used != Used::LoginNeeded, || {
            "it asked for a new login although a good one was stored".to_owned()
        })
        .served("the next use", &second)
        .still_stored(&newer, &stage.stored()?);
    Ok(findings.verdict(format!(
        "refused, read the store again: {}; the next use was served",
        first.told()
    )))
}

pub(super) fn adopted(stage: &mut Stage<'_>) -> Result<Verdict, Trouble> {
    let tokens = stage.log_in(EXPIRED)?;
    // It has seen its login once, and then another program renews it.
    let newer = stage.world.spend(&tokens)?;
    let home = stage.home.clone();
    stage.put(&home, &newer)?;
    let own = stage.refreshes_asked();
    let one = stage.use_once()?;
    let ledger = stage.ledger();
    let mut findings = Findings::default();
    findings
        .served("the use", &one)
        .expect(stage.refreshes_asked() == own, || {
            format!(
                "it sent {} refresh requests of its own",
                stage.refreshes_asked() - own
            )
        })
        .no_reuse(&ledger)
        .still_stored(&newer, &stage.stored()?);
    Ok(findings.verdict("served with the newer token, without a refresh"))
}
