//! A disk that is really full: a refresh still lands, and nothing that was stored is lost.
//!
//! Needs a mount, so it runs in a user namespace of its own and only in the long run of the tests.

use std::process::{Command, Stdio};

use crate::support::full;
use crate::support::stage::{Stage, store_path};
use crate::world::Said;

/// Runs a shell script in a user and mount namespace of its own, with the network of the test.
fn in_namespace(script: &str, arguments: &[&str]) -> Said {
    let output = Command::new("unshare")
        .args(["-Urm", "/bin/sh", "-euc", script, "sh"])
        .args(arguments)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    Said::of(output)
}

/// Copies the state directory onto a disk of 256 KiB, fills that up, runs `token` there, and copies everything back.
const SCRIPT: &str = r#"
program=$1; home=$2; disk=$3
mount -t tmpfs -o size=256k tmpfs "$disk"
cp -a "$home/.openclaw" "$disk/"
export HOME="$disk"
# The first login on this disk reserves the room of its record; then every last byte is taken.
"$program" token --provider rig >"$home/first.out"
dd if=/dev/zero of="$disk/filler" bs=4096 2>/dev/null || true
if dd if=/dev/zero of="$disk/more" bs=1 count=1 2>/dev/null; then echo "the disk is not full" >&2; exit 9; fi
rm -f "$disk/more"
code=0
TOKENSINK_CLOCK_OFFSET_SECONDS=3700 "$program" token --provider rig >"$home/second.out" 2>"$home/second.err" || code=$?
cp -a "$disk/.openclaw" "$home/full"
rm "$disk/filler"
TOKENSINK_CLOCK_OFFSET_SECONDS=3700 "$program" token --provider rig >"$home/third.out" 2>"$home/third.err"
cp -a "$disk/.openclaw" "$home/freed"
exit $code
"#;

#[test]
fn a_refresh_lands_in_its_record() {
    if !full() {
        eprintln!("only with TOKENSINK_TEST_FULL=1: a refresh on a full disk");
        return;
    }
    let probe = in_namespace("mount -t tmpfs tmpfs /mnt", &[]);
    // The long run promises that none of its parts was left out.
    assert_eq!(
        probe.code, 0,
        "this test mounts a small disk in a user namespace of its own, and that is not allowed here: {}\n\
         as root, run: sysctl kernel.unprivileged_userns_clone=1 kernel.apparmor_restrict_unprivileged_userns=0 \
         (those of the two that exist); in a container, start it with --security-opt seccomp=unconfined",
        probe.err
    );
    let stage = Stage::with_an_expired_grant();
    let home = stage.world.path("");
    let disk = stage.world.path("disk");
    std::fs::create_dir(&disk).unwrap();
    let program = stage.world.binary("tokensink");
    let arguments = [&program, &home, &disk].map(|path| path.to_str().unwrap().to_owned());
    let said = in_namespace(SCRIPT, &arguments.each_ref().map(String::as_str)).code(0);
    let text = |name: &str| std::fs::read_to_string(stage.world.path(name)).unwrap();
    let (first, second, third) = (text("first.out"), text("second.out"), text("third.out"));
    assert_ne!(first, second, "{said:#?}");
    stage.assert_works(&second);
    // With room again, the record's tokens move into the store, and nothing is sent.
    assert_eq!(second, third, "{}", text("third.err"));
    stage.assert_refreshes(2);
    let relative = store_path(&stage.world, "main");
    let relative = relative.strip_prefix(stage.world.state("")).unwrap();
    let full_store = std::fs::read_to_string(stage.world.path("full").join(relative)).unwrap();
    let freed_store = std::fs::read_to_string(stage.world.path("freed").join(relative)).unwrap();
    assert!(full_store.contains(first.trim()), "the store is as it was before");
    assert!(freed_store.contains(second.trim()), "the store caught up");
}
