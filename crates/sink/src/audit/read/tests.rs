use crate::audit::{AuditCheck, Event};
use crate::world::{World, agent, id};

const TRAIL: &str = "tokensink/audit.jsonl";

/// A trail of `count` events.
fn trail(count: usize) -> World {
    let world = World::new();
    let sink = world.sink();
    for number in 0..count {
        sink.audit(&Event {
            what: "login",
            agent: &agent("main"),
            profile: &id("rig:one"),
            detail: format!("event {number}"),
        });
    }
    world
}

fn verified(world: &World) -> AuditCheck {
    world.sink().audit_verify(None).unwrap()
}

#[test]
fn what_was_written_is_whole() {
    for count in [0, 1, 2, 40] {
        let check = verified(&trail(count));
        assert!(check.is_whole(), "{check:?}");
        assert_eq!((check.lines, check.cut_off.len()), (count, 0));
        assert_eq!(check.head.is_some(), count > 0);
    }
}

#[test]
fn every_change_of_a_line_but_the_last_is_found_where_it_shows() {
    let world = trail(6);
    let whole = world.text(TRAIL);
    let lines: Vec<&str> = whole.lines().collect();
    let joined = |lines: Vec<&str>| lines.join("\n") + "\n";
    for at in 0..6 {
        let mut removed = lines.clone();
        removed.remove(at);
        let changed: Vec<String> = lines
            .iter()
            .enumerate()
            .map(|(place, line)| {
                if place == at {
                    line.replace("event", "EVENT")
                } else {
                    (*line).to_owned()
                }
            })
            .collect();
        let mut doubled = lines.clone();
        doubled.insert(at, lines[at]);
        let mut swapped = lines.clone();
        swapped.swap(at, (at + 1) % 6);
        // (what, text, the first line that does not fit; the end is not protected by the chain itself)
        let cases = [
            ("removed", joined(removed), (at < 5).then_some(at + 1)),
            ("changed", changed.join("\n") + "\n", (at < 5).then_some(at + 2)),
            ("doubled", joined(doubled), Some(at + 2)),
            ("swapped", joined(swapped), Some(if at == 5 { 1 } else { at + 1 })),
        ];
        for (what, text, want) in cases {
            world.put(TRAIL, &text);
            let check = verified(&world);
            let found = check.fault.as_ref().map(|fault| fault.line);
            assert_eq!(found, want, "{what} {at}: {check:?}");
            assert_eq!(check.is_whole(), want.is_none());
        }
    }
}

#[test]
fn a_noted_hash_shows_what_the_chain_cannot() {
    let world = trail(3);
    let noted = verified(&world).head.unwrap();
    let sink = world.sink();
    sink.audit(&Event {
        what: "logout",
        agent: &agent("main"),
        profile: &id("rig:one"),
        detail: String::new(),
    });
    let check = |head: &str| world.sink().audit_verify(Some(head));
    assert!(check(&noted).unwrap().is_whole(), "it has only grown");
    let cut: String = world
        .text(TRAIL)
        .lines()
        .take(2)
        .map(|line| format!("{line}\n"))
        .collect();
    world.put(TRAIL, &cut);
    assert!(
        verified(&world).is_whole(),
        "a cut at the end does not show by itself"
    );
    let check_cut = check(&noted.to_uppercase()).unwrap();
    assert!(
        !check_cut.is_whole() && check_cut.fault.is_none(),
        "{check_cut:?}"
    );
    assert_eq!(check("abc").unwrap_err().code(), "bad_hash");
}

#[test]
fn a_line_that_a_crash_has_cut_off_is_told_and_is_no_fault() {
    let world = trail(2);
    let torn = world.text(TRAIL);
    world.put(TRAIL, &torn[..torn.len() - 20]);
    assert_eq!(verified(&world).cut_off, [2]);
    world.sink().audit(&Event {
        what: "refresh",
        agent: &agent("main"),
        profile: &id("rig:one"),
        detail: String::new(),
    });
    let check = verified(&world);
    assert!(check.is_whole(), "{check:?}");
    assert_eq!((check.lines, check.cut_off), (3, vec![2]));
    let list = world.sink().audit_list(10, None, None).unwrap();
    assert_eq!((list.lines.len(), list.unreadable), (2, 1));
    assert_eq!(list.lines[1].event, "refresh");
}

#[test]
fn the_list_is_cut_at_its_end_and_can_be_narrowed() {
    let world = trail(5);
    world.sink().audit(&Event {
        what: "logout",
        agent: &agent("work"),
        profile: &id("rig:two"),
        detail: String::new(),
    });
    let list = |count, profile, agent| world.sink().audit_list(count, profile, agent).unwrap();
    let last = list(2, None, None);
    let numbers: Vec<_> = last.lines.iter().map(|line| line.number).collect();
    assert_eq!((numbers, last.matching), (vec![5, 6], 6));
    assert_eq!(list(9, Some("rig:two"), None).lines.len(), 1);
    assert_eq!(list(9, None, Some("main")).lines.len(), 5);
    assert_eq!(list(9, Some("rig:two"), Some("main")).lines.len(), 0);
}
