//! A disk that is really full, in every stage of a refresh, and one that becomes read-only under way and comes back: a
//! refresh lands, and nothing that was stored is lost. The server is strict, so that a lost answer would be seen.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokensink_authserver::GrantType;

use crate::support::crowd::{Dice, finish, start};
use crate::support::full;
use crate::support::namespace::{Filler, inside, mount, umount};
use crate::support::processes::wait_for_landing;
use crate::support::stage::{ONE_LIFE, Stage, clock, run_at, store_path, stored};
use crate::world::BROWSER;

const LINE: &str = "tokensink token --provider rig";
const DISK: &str = "size=1m,nr_inodes=200";

/// The stage at which the disk becomes full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    BeforeTheCall,
    /// The request is at the server.
    Asked,
}

/// A grant with its record on the small disk, due again in the next round.
fn stage() -> Stage {
    let stage = Stage::with_an_expired_grant();
    let token = run_at(&stage.world, LINE, 0).code(0).out;
    stage.assert_works(&token);
    wait_for_landing(&stage.world);
    stage
}

fn stored_access(stage: &Stage) -> String {
    stored(&stage.world, "main", "rig:alice")["access"]
        .as_str()
        .unwrap()
        .to_owned()
}

#[test]
fn a_refresh_lands_on_a_full_disk() {
    if !inside("disks::a_refresh_lands_on_a_full_disk", DISK) {
        return;
    }
    let stage = stage();
    let fillers = [Filler::bytes as fn() -> Filler, Filler::inodes];
    let mut round = 0;
    for filler in fillers {
        for when in [When::BeforeTheCall, When::Asked] {
            round += 1;
            let ahead = round * ONE_LIFE;
            let before = stored_access(&stage);
            if when == When::Asked {
                stage.hold_the_next_refresh();
            }
            let mut filled = (when == When::BeforeTheCall).then(filler);
            let caller = start(&stage.world, LINE, &clock(ahead));
            if when == When::Asked {
                stage.wait_until_held();
                filled = Some(filler());
                stage.server.faults().release();
            }
            let token = finish(caller).code(0).out;
            stage.assert_works(&token);
            wait_for_landing(&stage.world);
            // Others are served as well, from the record where the store could not be written.
            assert_eq!(run_at(&stage.world, LINE, ahead).code(0).out, token, "{when:?}");
            assert!(
                [&*before, token.trim()].contains(&&*stored_access(&stage)),
                "{when:?}"
            );
            drop(filled);
            assert_eq!(run_at(&stage.world, LINE, ahead).code(0).out, token, "{when:?}");
            wait_for_landing(&stage.world);
            assert_eq!(
                stored_access(&stage),
                token.trim(),
                "{when:?}: the store caught up"
            );
        }
    }
    stage.assert_refreshes(1 + u64::try_from(round).unwrap());
    println!("{round} refreshes on a disk without a byte or without a file left, at two stages: all landed");
}

#[test]
fn a_disk_that_fills_up_and_empties_all_the_time_loses_nothing() {
    if !inside(
        "disks::a_disk_that_fills_up_and_empties_all_the_time_loses_nothing",
        DISK,
    ) {
        return;
    }
    let stage = stage();
    let rounds: i64 = if full() { 150 } else { 12 };
    let done = AtomicBool::new(false);
    let fillings = std::thread::scope(|scope| {
        let filling = scope.spawn(|| {
            let mut dice = Dice::new(7);
            let mut fillings = 0;
            while !done.load(Ordering::SeqCst) {
                let filler = if dice.below(2) == 0 {
                    Filler::bytes()
                } else {
                    Filler::inodes()
                };
                std::thread::sleep(Duration::from_micros(u64::try_from(dice.below(20_000)).unwrap()));
                drop(filler);
                std::thread::sleep(Duration::from_micros(u64::try_from(dice.below(10_000)).unwrap()));
                fillings += 1;
            }
            fillings
        });
        for round in 1..=rounds {
            let callers = [LINE; 3].map(|line| start(&stage.world, line, &clock(round * ONE_LIFE)));
            for caller in callers {
                stage.assert_works(&finish(caller).code(0).out);
            }
            wait_for_landing(&stage.world);
        }
        done.store(true, Ordering::SeqCst);
        filling.join().unwrap()
    });
    let token = run_at(&stage.world, LINE, rounds * ONE_LIFE).code(0).out;
    wait_for_landing(&stage.world);
    assert_eq!(stored_access(&stage), token.trim());
    stage.assert_refreshes(1 + u64::try_from(rounds).unwrap());
    println!(
        "{rounds} refreshes while the disk was filled up {fillings} times: all landed, 0 reuses, 0 logins"
    );
}

#[test]
fn a_login_on_a_full_disk_harms_none_that_is_there() {
    if !inside("disks::a_login_on_a_full_disk_harms_none_that_is_there", DISK) {
        return;
    }
    let stage = stage();
    let before = std::fs::read(store_path(&stage.world, "main")).unwrap();
    let filled = Filler::bytes();
    let line = "tokensink models auth login --provider rig";
    let said = stage.world.run_with(line, None, &[("BROWSER", BROWSER)]);
    assert_ne!(said.code, 0, "{said:#?}");
    assert!(
        said.err.contains("error: ") && said.err.contains("space"),
        "{said:#?}"
    );
    assert_eq!(std::fs::read(store_path(&stage.world, "main")).unwrap(), before);
    stage.assert_works(&run_at(&stage.world, LINE, 0).code(0).out);
    drop(filled);
    stage.world.run_with(line, None, &[("BROWSER", BROWSER)]).code(0);
    stage.assert_works(&run_at(&stage.world, LINE, 0).code(0).out);
}

/// Makes a directory of the home read-only in the way in which a running system can (mount(8), bind).
fn make_readonly(place: &str) {
    mount(&["--bind", place, place]);
    mount(&["-o", "remount,bind,ro", place]);
}

#[test]
fn a_disk_that_is_read_only_before_the_call_costs_nothing() {
    if !inside(
        "disks::a_disk_that_is_read_only_before_the_call_costs_nothing",
        DISK,
    ) {
        return;
    }
    let stage = stage();
    mount(&["-o", "remount,ro", "/mnt"]);
    // What is fresh is served; what is not is not asked for, since the answer could not be kept.
    stage.assert_works(&run_at(&stage.world, LINE, 0).code(0).out);
    let said = run_at(&stage.world, &format!("{LINE} --wait 0s"), ONE_LIFE);
    assert!(said.code != 0 && said.code != 3, "{said:#?}");
    assert!(said.err.contains("ead-only file system"), "{said:#?}");
    assert_eq!(stage.server.ledger().posts(GrantType::RefreshToken), 1);
    mount(&["-o", "remount,rw", "/mnt"]);
    stage.assert_works(&run_at(&stage.world, LINE, ONE_LIFE).code(0).out);
    stage.assert_refreshes(2);
}

#[test]
fn what_becomes_read_only_under_way_and_comes_back_loses_no_answer() {
    if !inside(
        "disks::what_becomes_read_only_under_way_and_comes_back_loses_no_answer",
        DISK,
    ) {
        return;
    }
    let stage = stage();
    let place = |name: &str| stage.world.state(name).to_str().unwrap().to_owned();
    let (stores, records) = (place("agents"), place("tokensink/journal"));
    let cases: [(&[&str], bool); 3] = [
        (&[&stores], true),
        (&[&records], true),
        (&[&stores, &records], false),
    ];
    let mut ahead = 0;
    for (places, lands_at_once) in cases {
        ahead += ONE_LIFE;
        let mut waiting = None;
        stage.hold_the_next_refresh();
        let mut caller = start(&stage.world, LINE, &clock(ahead));
        stage.wait_until_held();
        for place in places {
            make_readonly(place);
        }
        stage.server.faults().release();
        if lands_at_once {
            // Store or record: one of them is enough.
            let token = finish(caller).code(0).out;
            stage.assert_works(&token);
            wait_for_landing(&stage.world);
            assert_eq!(run_at(&stage.world, LINE, ahead).code(0).out, token, "{places:?}");
        } else {
            // With neither the helper holds on to what it was given, and nobody is handed out what is not kept.
            std::thread::sleep(Duration::from_millis(300));
            assert!(caller.try_wait().unwrap().is_none(), "{places:?}");
            waiting = Some(caller);
        }
        for place in places {
            umount(place);
        }
        if let Some(caller) = waiting {
            stage.assert_works(&finish(caller).code(0).out);
        }
        let token = run_at(&stage.world, LINE, ahead).code(0).out;
        stage.assert_works(&token);
        wait_for_landing(&stage.world);
        assert_eq!(stored_access(&stage), token.trim(), "{places:?}");
    }
    stage.assert_refreshes(4);
}
