//! The file in which a login lives.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tokensink_authserver::{Fault, FaultAction};
use tokensink_host::{Files, atomic};

use super::ordinary::EXPIRED;
use crate::process::Invocation;
use crate::report::Verdict;
use crate::stage::{Findings, Stage};
use crate::world::Trouble;

/// A key that no program knows.
const FOREIGN: &str = "xConformanceKit";
/// How long a program may take to come back when there is room again.
const PATIENCE: Duration = Duration::from_secs(60);
/// How deep a home is searched.
const DEPTH: usize = 8;

pub(super) fn unknown_keys(stage: &mut Stage<'_>) -> Result<Verdict, Trouble> {
    stage.log_in(EXPIRED)?;
    let before = stage.store_bytes(&stage.home)?.unwrap_or_default();
    let Ok(Value::Object(mut store)) = serde_json::from_slice::<Value>(&before) else {
        return Ok(Verdict::NotApplicable("its store is no JSON object".to_owned()));
    };
    let foreign = json!({"since": 2026, "list": [1, "two", null]});
    store.insert(FOREIGN.to_owned(), foreign.clone());
    write_store(stage, Value::Object(store).to_string().as_bytes())?;
    let one = stage.use_once()?;
    let after = stage.store_bytes(&stage.home)?.unwrap_or_default();
    let after: Value = serde_json::from_slice(&after).unwrap_or_default();
    let mut findings = Findings::default();
    findings
        .served("the use", &one)
        .newest_stored(&stage.ledger(), &stage.stored()?)
        .expect(after[FOREIGN] == foreign, || {
            "the key that somebody else wrote is gone".to_owned()
        });
    Ok(findings.verdict("the key that somebody else wrote is still there"))
}

pub(super) fn private(stage: &mut Stage<'_>) -> Result<Verdict, Trouble> {
    stage.log_in(EXPIRED)?;
    let one = stage.use_once()?;
    let path = stage.client.store(&stage.home);
    let stamp = stage
        .host
        .files
        .stat(&path)
        .map_err(|error| Trouble(format!("{}: {error}", path.display())))?;
    let mode = stamp.map_or(0, |stamp| stamp.mode & 0o777);
    let mut findings = Findings::default();
    findings
        .served("the use", &one)
        .newest_stored(&stage.ledger(), &stage.stored()?)
        .expect(mode & 0o077 == 0, || {
            format!("the store has mode {mode:04o} after the refresh")
        });
    Ok(findings.verdict(format!("mode {mode:04o} after the refresh")))
}

pub(super) fn broken(stage: &mut Stage<'_>) -> Result<Verdict, Trouble> {
    stage.log_in(EXPIRED)?;
    let whole = stage.store_bytes(&stage.home)?.unwrap_or_default();
    let half = &whole[..whole.len() / 2];
    write_store(stage, half)?;
    let one = stage.use_once()?;
    let kept = holds(&*stage.host.files, stage.home.root(), half, DEPTH);
    let mut findings = Findings::default();
    findings
        .expect(!one.is_served(), || {
            "it says that it was served, and it cannot have been".to_owned()
        })
        .expect(kept, || "what was left of the store is gone".to_owned());
    Ok(findings.verdict("what was left of the store is still there"))
}

pub(super) fn no_secret(stage: &mut Stage<'_>) -> Result<Verdict, Trouble> {
    let tokens = stage.log_in(EXPIRED)?;
    let quoting = |status: u16, error: &str| {
        let description = format!("bad refresh_token {}", tokens.refresh.expose());
        let body = json!({"error": error, "error_description": description}).to_string();
        Fault::on_refresh(FaultAction::Status { status, body })
    };
    stage.world.fault(quoting(500, "server_error"));
    stage.world.fault(quoting(400, "invalid_grant").times(10));
    stage.use_once()?;
    stage.use_once()?;
    let told = stage.said_secrets();
    let mut findings = Findings::default();
    findings
        .expect(stage.refreshes_asked() > 0, || {
            "no refresh request came".to_owned()
        })
        .expect(told == 0, || format!("{told} tokens stand in what it printed"));
    Ok(findings.verdict("two uses that failed, no token in what they printed"))
}

/// Writes the store's bytes as another program would, with its mode.
fn write_store(stage: &Stage<'_>, bytes: &[u8]) -> Result<(), Trouble> {
    let path = stage.client.store(&stage.home);
    atomic::replace(&*stage.host.files, &*stage.host.random, &path, bytes, 0o600)
        .map_err(|error| Trouble(error.to_string()))?;
    Ok(())
}

/// Whether a file below `dir` has exactly these bytes.
fn holds(files: &dyn Files, dir: &Path, bytes: &[u8], depth: usize) -> bool {
    let names = files.list(dir).unwrap_or_default();
    names.iter().any(|name| {
        let path = dir.join(name);
        match files.inspect(&path) {
            Ok(Some(facts)) if facts.stamp.is_dir => depth > 0 && holds(files, &path, bytes, depth - 1),
            Ok(Some(_)) => files.read(&path).is_ok_and(|found| found == bytes),
            _ => false,
        }
    })
}

/// Mounts a small disk over the home, fills it to the last byte, runs the command and keeps what is left of the home.
const ON_A_FULL_DISK: &str = r#"
home=$1; saved=$2; shift 2
cp -a "$home/." "$saved/"
mount -t tmpfs -o size=32m tmpfs "$home"
cp -a "$saved/." "$home/"
cd "$home"
dd if=/dev/zero of="$home/filler" bs=65536 2>/dev/null || true
dd if=/dev/zero of="$home/filler.last" bs=1 2>/dev/null || true
code=0
"$@" || code=$?
rm -f "$home/filler" "$home/filler.last"
find "$saved" -mindepth 1 -delete
cp -a "$home/." "$saved/"
exit $code
"#;

/// Puts back what was kept.
const PUT_BACK: &str = r#"find "$1" -mindepth 1 -delete; cp -a "$2/." "$1/""#;

pub(super) fn full_disk(stage: &mut Stage<'_>) -> Result<Verdict, Trouble> {
    stage.log_in(EXPIRED)?;
    let usual = stage.client.use_once(&stage.home)?;
    if let Some(why) = cannot_mount(stage, &usual) {
        return Ok(Verdict::NotApplicable(format!(
            "a small disk cannot be mounted here: {}",
            crate::stage::quoted(&why)
        )));
    }
    let saved = stage.new_home("saved")?;
    let home = stage.home.clone();
    // The program's arguments come after the script's.
    let mut words: Vec<OsString> = vec![home.root().into(), saved.root().into(), usual.program.clone()];
    words.extend(usual.args.iter().cloned());
    let on_full = in_namespace(&usual, ON_A_FULL_DISK, words);
    let process = stage.spawn(&on_full)?;
    let during = stage.end_of(process);
    let back = shell(&usual, PUT_BACK, vec![home.root().into(), saved.root().into()]);
    let put_back = stage.spawn(&back)?.wait();
    if put_back.code != Some(0) {
        return Err(Trouble(format!(
            "the home could not be put back: {}",
            put_back.complaint
        )));
    }
    let mut findings = Findings::default();
    findings.not_blank(&stage.stored()?);
    let spent = stage.ledger().refreshes;
    let (last, uses) = stage.use_until_served(PATIENCE)?;
    let ledger = stage.ledger();
    findings
        .served(
            &format!("use {uses} with room again ({spent} refreshes happened without)"),
            &last,
        )
        .no_reuse(&ledger);
    if last.is_served() {
        findings.newest_stored(&ledger, &stage.stored()?);
    }
    Ok(findings.verdict(format!(
        "on the full disk: {} ({spent} refreshes); served with room again",
        during.told()
    )))
}

/// Why no disk can be mounted, if none can.
fn cannot_mount(stage: &Stage<'_>, usual: &Invocation) -> Option<String> {
    let probe = in_namespace(
        usual,
        r#"mount -t tmpfs -o size=64k tmpfs "$1""#,
        vec![usual.dir.clone().into()],
    );
    match stage.spawn(&probe) {
        Ok(process) => {
            let ended = process.wait();
            (ended.code != Some(0)).then_some(ended.complaint)
        }
        Err(why) => Some(why.to_string()),
    }
}

/// A shell script as root of a user namespace of its own, with the mounts and the network of the host.
fn in_namespace(usual: &Invocation, script: &str, words: Vec<OsString>) -> Invocation {
    let mut invocation = shell(usual, script, words);
    let mut args: Vec<OsString> = vec!["-Urm".into(), invocation.program];
    args.append(&mut invocation.args);
    Invocation {
        program: "unshare".into(),
        args,
        ..invocation
    }
}

/// A shell script in the environment of a use.
fn shell(usual: &Invocation, script: &str, words: Vec<OsString>) -> Invocation {
    let mut args: Vec<OsString> = vec!["-euc".into(), script.into(), "sh".into()];
    args.extend(words);
    Invocation {
        program: "/bin/sh".into(),
        args,
        ..usual.clone()
    }
}
