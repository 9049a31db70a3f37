//! Clocks that are wrong, and tokens that are renewed ahead of time. A program keeps the real clock; that of the server
//! is moved the other way.

use super::ordinary::{EXPIRED, uses_with_one_refresh};
use crate::report::Verdict;
use crate::stage::{Findings, Stage};
use crate::world::Trouble;

const HOUR_MS: i64 = 3_600_000;
/// Dead for half an hour at the server, alive for half an hour by a clock that is an hour behind.
const HALF_AN_HOUR_AGO: i64 = -1800;
/// A token with so many seconds left is due for whoever renews ahead of time.
const TEN_MINUTES: i64 = 600;

pub(super) fn behind(stage: &mut Stage<'_>) -> Result<Verdict, Trouble> {
    stage.world.set_ahead(HOUR_MS);
    stage.log_in(HALF_AN_HOUR_AGO)?;
    uses_with_one_refresh(stage, &["first", "second", "third"])
}

pub(super) fn ahead(stage: &mut Stage<'_>) -> Result<Verdict, Trouble> {
    stage.world.set_ahead(-HOUR_MS);
    stage.log_in(EXPIRED)?;
    uses_with_one_refresh(stage, &["first", "second", "third"])
}

pub(super) fn renewed_ahead(stage: &mut Stage<'_>) -> Result<Verdict, Trouble> {
    let Some(renew) = stage.client.renew(&stage.home) else {
        let why = "it has no command that renews logins ahead of time";
        return Ok(Verdict::NotApplicable(why.to_owned()));
    };
    stage.log_in(TEN_MINUTES)?;
    let mut findings = Findings::default();
    for which in ["the first run", "the second run"] {
        let process = stage.spawn(&renew)?;
        let one = stage.end_of(process);
        findings.expect(one.ended.code == Some(0), || {
            format!("{which} of the timer: {}", one.told())
        });
    }
    let ledger = stage.ledger();
    findings
        .asked(&ledger, 1)
        .newest_stored(&ledger, &stage.stored()?);
    let one = stage.use_once()?;
    findings
        .served("a use afterwards", &one)
        .asked(&stage.ledger(), 1);
    Ok(findings.verdict("two runs of its timer, one refresh"))
}
