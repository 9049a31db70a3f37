//! What happens every day.

use std::time::Duration;

use tokensink_authserver::{Fault, FaultAction};

use crate::home::Home;
use crate::report::Verdict;
use crate::stage::{Findings, Stage, Use};
use crate::world::Trouble;

/// A token with so many seconds left is fresh for everybody.
const FRESH: i64 = 3000;
/// A token that ran out so many seconds ago.
pub(super) const EXPIRED: i64 = -60;
/// Within this time after the first refresh request, others that are under way come too.
const SETTLE: Duration = Duration::from_secs(2);
/// An answer is held back for so long at most, also on a busy host: who waits for another's refresh may give up on a
/// server that takes longer.
const HELD_AT_MOST: Duration = Duration::from_secs(5);

pub(super) fn fresh(stage: &mut Stage<'_>) -> Result<Verdict, Trouble> {
    let tokens = stage.log_in(FRESH)?;
    let mut findings = Findings::default();
    for which in ["first use", "second use", "third use"] {
        let one = stage.use_once()?;
        findings.served(which, &one);
    }
    findings
        .asked(&stage.ledger(), 0)
        .still_stored(&tokens, &stage.stored()?);
    Ok(findings.verdict("three uses, no refresh"))
}

pub(super) fn expired(stage: &mut Stage<'_>) -> Result<Verdict, Trouble> {
    stage.log_in(EXPIRED)?;
    let mut findings = Findings::default();
    let first = stage.use_once()?;
    findings
        .served("first use", &first)
        .newest_stored(&stage.ledger(), &stage.stored()?);
    let second = stage.use_once()?;
    findings.served("second use", &second).asked(&stage.ledger(), 1);
    Ok(findings.verdict("two uses, one refresh, and the store holds what the server issued last"))
}

pub(super) fn many(stage: &mut Stage<'_>) -> Result<Verdict, Trouble> {
    let took = undisturbed(stage)?;
    stage.log_in(EXPIRED)?;
    let crowd = stage.client.crowd();
    let homes = vec![stage.home.clone(); crowd];
    let uses = together(stage, &homes, took)?;
    let mut findings = Findings::default();
    let unserved: Vec<_> = uses.iter().filter(|one| !one.is_served()).collect();
    findings.expect(unserved.is_empty(), || {
        let first = unserved.first().map(|one| one.told()).unwrap_or_default();
        format!(
            "{} of {crowd} processes were not served; one of them: {first}",
            unserved.len()
        )
    });
    let ledger = stage.ledger();
    findings
        .asked(&ledger, 1)
        .no_reuse(&ledger)
        .newest_stored(&ledger, &stage.stored()?);
    let after = stage.use_once()?;
    findings.served("a use afterwards", &after);
    Ok(findings.verdict(format!("{crowd} processes, one refresh, all served")))
}

pub(super) fn two_agents(stage: &mut Stage<'_>) -> Result<Verdict, Trouble> {
    let took = undisturbed(stage)?;
    stage.log_in(EXPIRED)?;
    let Some(other) = stage.client.second(&stage.home)? else {
        let why = "it has one store for everybody on a host";
        return Ok(Verdict::NotApplicable(why.to_owned()));
    };
    let homes = [stage.home.clone(), other];
    let mut findings = Findings::default();
    for (which, one) in ["the first agent", "the second agent"]
        .into_iter()
        .zip(together(stage, &homes, took)?)
    {
        findings.served(which, &one);
    }
    for (which, home) in ["the first agent, again", "the second agent, again"]
        .into_iter()
        .zip(&homes)
    {
        let one = stage.use_at(home)?;
        findings.served(which, &one);
    }
    let ledger = stage.ledger();
    findings.asked(&ledger, 1).no_reuse(&ledger);
    Ok(findings.verdict("two agents, one refresh, both served"))
}

/// How long a use takes that nothing disturbs, with a login of its own.
fn undisturbed(stage: &mut Stage<'_>) -> Result<Duration, Trouble> {
    let home = stage.new_home("undisturbed")?;
    let tokens = stage.world.issue(FRESH)?;
    stage.put(&home, &tokens)?;
    let one = stage.use_at(&home)?;
    Ok(one.ended.took)
}

/// Uses of these homes' logins at the same moment: the answer to the first refresh is held back until all have had the
/// time to ask for one too, `took` being the time of a use alone.
fn together(stage: &mut Stage<'_>, homes: &[Home], took: Duration) -> Result<Vec<Use>, Trouble> {
    stage.world.fault(Fault::on_refresh(FaultAction::Hold));
    let mut started = homes
        .iter()
        .map(|home| stage.start_at(home))
        .collect::<Result<Vec<_>, _>>()?;
    if stage.wait_until_held(&mut started) {
        let others = u32::try_from(homes.len()).unwrap_or(u32::MAX);
        stage
            .host
            .clock
            .sleep(HELD_AT_MOST.min(SETTLE + took.saturating_mul(others) / 2));
        stage.world.faults().release();
    }
    Ok(started.into_iter().map(|process| stage.end_of(process)).collect())
}

pub(super) fn without_refresh_token(stage: &mut Stage<'_>) -> Result<Verdict, Trouble> {
    let tokens = stage.log_in(EXPIRED)?;
    stage.world.fault(Fault::on_refresh(FaultAction::Omit {
        fields: vec!["refresh_token".to_owned()],
    }));
    let mut findings = Findings::default();
    let first = stage.use_once()?;
    findings
        .served("first use", &first)
        .still_stored(&tokens, &stage.stored()?);
    let second = stage.use_once()?;
    findings.served("second use", &second);
    Ok(findings.verdict("the new access token serves, and the old refresh token is still stored"))
}

pub(super) fn without_expires_in(stage: &mut Stage<'_>) -> Result<Verdict, Trouble> {
    stage.log_in(EXPIRED)?;
    let omit = FaultAction::Omit {
        fields: vec!["expires_in".to_owned()],
    };
    stage.world.fault(Fault::on_refresh(omit).times(10));
    uses_with_one_refresh(stage, &["first", "second"])
}

/// Uses one after the other, each of them served, with one refresh altogether.
pub(super) fn uses_with_one_refresh(stage: &mut Stage<'_>, uses: &[&str]) -> Result<Verdict, Trouble> {
    let mut findings = Findings::default();
    for which in uses {
        let one = stage.use_once()?;
        findings.served(&format!("{which} use"), &one);
    }
    let ledger = stage.ledger();
    findings
        .asked(&ledger, 1)
        .no_reuse(&ledger)
        .newest_stored(&ledger, &stage.stored()?);
    Ok(findings.verdict(format!("{} uses, one refresh", uses.len())))
}

pub(super) fn rejected(stage: &mut Stage<'_>) -> Result<Verdict, Trouble> {
    stage.log_in(FRESH)?;
    stage.world.forget_access_tokens();
    let one = stage.use_once()?;
    let ledger = stage.ledger();
    let mut findings = Findings::default();
    findings
        .served("the use", &one)
        .asked(&ledger, 1)
        .newest_stored(&ledger, &stage.stored()?);
    Ok(findings.verdict("one refresh, and the call was repeated with the new token"))
}

pub(super) fn rejects_everything(stage: &mut Stage<'_>) -> Result<Verdict, Trouble> {
    stage.log_in(FRESH)?;
    stage.world.refuse_all();
    let refused = stage.use_once()?;
    let asked = stage.refreshes_asked();
    let mut findings = Findings::default();
    findings
        .expect(!refused.is_served(), || {
            "it says that it was served, and it was not".to_owned()
        })
        .expect(asked <= 1, || format!("{asked} refreshes for one use"))
        .not_blank(&stage.stored()?);
    // When the program tries again is its own affair; whether there is anything left to try with is not.
    let alive = stage.is_login_alive()?;
    findings
        .expect(alive, || "the stored refresh token is no longer good".to_owned())
        .no_reuse(&stage.ledger());
    Ok(findings.verdict(format!("refreshes for one use: {asked}; the login is alive")))
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use tokensink_host::{Clock, Host, atomic};
    use tokensink_types::UnixMillis;

    use super::*;
    use crate::process::Stop;
    use crate::scenarios::SCENARIOS;

    /// By how much a monotonic clock runs ahead before anything else happens on the host.
    const LATE: Duration = Duration::from_secs(400);

    fn put(path: &Path, text: &str) {
        let host = Host::real();
        atomic::replace(&*host.files, &*host.random, path, text.as_bytes(), 0o600).unwrap();
    }

    /// The clock of a host on which programs get nothing done for [`LATE`]: until then nobody who sleeps has to wait,
    /// and then a file says that they may begin.
    #[derive(Debug)]
    struct BusyHost {
        system: Arc<dyn Clock>,
        skipped_ms: AtomicU64,
        gate: PathBuf,
    }

    impl Clock for BusyHost {
        fn now(&self) -> UnixMillis {
            self.system.now()
        }

        fn monotonic(&self) -> Duration {
            self.system.monotonic() + Duration::from_millis(self.skipped_ms.load(Ordering::SeqCst))
        }

        fn sleep(&self, time: Duration) {
            if Duration::from_millis(self.skipped_ms.load(Ordering::SeqCst)) >= LATE {
                return self.system.sleep(time);
            }
            let millis = u64::try_from(time.as_millis()).unwrap();
            let before = self.skipped_ms.fetch_add(millis, Ordering::SeqCst);
            if Duration::from_millis(before + millis) >= LATE {
                put(&self.gate, "");
            }
        }
    }

    /// examples/conformance/naive.py behind a gate, and one at a time: it reads its store with the lock held, which is
    /// all that is wanted of a program here.
    const PATIENT: &str = r#"
name = "patient"
log_in = ["python3", "EXAMPLES/naive.py", "login"]
use = ["sh", "-c", 'until [ -e "$GATE" ]; do sleep 0.02; done; exec flock "$HOME/lock" python3 "$0" use', "EXAMPLES/naive.py"]
store = ".naive/{agent}/login.json"
access = "/access_token"
refresh = "/refresh_token"
seconds = 900
outcome = {}
env = { GATE = "{dir}/gate" }
"#;

    fn patient(dir: &Path) -> Box<dyn crate::Client> {
        let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/conformance");
        let path = dir.join("patient.toml");
        put(&path, &PATIENT.replace("EXAMPLES", examples));
        crate::find(&Host::real(), path.to_str().unwrap(), None).unwrap()
    }

    #[test]
    fn processes_that_take_minutes_to_start_find_an_answer_that_is_let_go() {
        let dir = tempfile::tempdir().unwrap();
        let client = patient(dir.path());
        let mut host = Host::real();
        host.clock = Arc::new(BusyHost {
            system: Arc::clone(&host.clock),
            skipped_ms: AtomicU64::default(),
            gate: host.files.canonical(dir.path()).unwrap().join("gate"),
        });
        let scenario = SCENARIOS
            .iter()
            .find(|one| one.id == "many-processes-one-refresh")
            .unwrap();
        let began = host.clock.monotonic();
        let mut stage = Stage::open(&host, &*client, scenario, &Stop::default()).unwrap();
        stage.log_in(EXPIRED).unwrap();
        let homes = vec![stage.home.clone(); 3];
        let uses = together(&mut stage, &homes, Duration::from_secs(1)).unwrap();
        for one in &uses {
            assert!(one.is_served(), "{}", one.told());
        }
        let ledger = stage.ledger();
        assert_eq!((stage.refreshes_asked(), ledger.reuses), (1, 0));
        assert!(host.clock.monotonic() - began >= LATE);
    }
}
