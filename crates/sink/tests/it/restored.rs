//! A login that came out of a bundle, against a strict server: used to its end, tried once, and told for what it is.

use std::path::Path;

use tokensink_sink::{BundleImport, ErrorKind, ExportRequest, Opener, Sealer};
use tokensink_testkit::TestHost;

use crate::world::{HOUR, PROFILE, STATE, World, request, strict};

const FILE: &str = "/home/user/bundle.age";
const IDENTITY: &str = "AGE-SECRET-KEY-1GQ9778VQXMMJVE8SK7J6VT8UJ4HDQAJUVSFCWCM02D8GEWQ72PVQ2Y5J33";
const RECIPIENT: &str = "age1t7rxyev2z3rw82stdlrrepyc39nvn86l5078zqkf5uasdy86jp6svpy7pa";

/// Moves the login of `from` into a bundle.
fn moved(from: &World) -> Vec<u8> {
    let sink = from.sink();
    let all = ExportRequest {
        moves: true,
        ..ExportRequest::default()
    };
    let plan = sink.plan_export(&all).unwrap();
    let sealer = Sealer::to_recipients(&[RECIPIENT.to_owned()]).unwrap();
    sink.export(&plan, Some(Path::new(FILE)), &sealer).unwrap();
    from.test.files.snapshot().remove(Path::new(FILE)).unwrap()
}

/// Another machine before the same server, at the same time, with the bundle taken in.
fn restored(from: &World, bundle: &[u8]) -> World {
    let there = format!("{STATE}/tokensink/providers/rig.toml");
    let definition = from.test.files.text(&there);
    let test = TestHost {
        clock: from.test.clock.clone(),
        transport: from.test.transport.clone(),
        ..TestHost::new()
    };
    test.files.put(there, definition, 0o600);
    test.files.put(FILE, bundle, 0o600);
    let world = World { test, ..from.clone() };
    let sink = world.sink();
    let import = BundleImport {
        file: FILE.into(),
        agent: None,
    };
    let plan = sink.plan_bundle_import(&import, &Opener::by_identities(&IDENTITY.into()).unwrap());
    let report = sink.apply_import(&plan.unwrap()).unwrap();
    assert_eq!(report.stored.len(), 1, "{report:?}");
    world
}

#[test]
fn its_access_token_serves_to_the_end_and_then_it_is_refreshed_once() {
    let home = World::logged_in(strict());
    let before = home.sink().acquire(&request()).unwrap();
    let bundle = moved(&home);
    let error = home.sink().acquire(&request()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LoginNeeded, "it is gone at home");
    let there = restored(&home, &bundle);
    let lease = there.sink().acquire(&request()).unwrap();
    assert_eq!(lease.secret, before.secret);
    // Less than the usual margin is left: any other login would be refreshed now.
    there
        .test
        .clock
        .advance(HOUR - std::time::Duration::from_secs(60));
    assert_eq!(there.sink().acquire(&request()).unwrap().secret, before.secret);
    assert_eq!(there.ledger().refreshes, 0);
    there.test.clock.advance(std::time::Duration::from_secs(61));
    let lease = there.sink().acquire(&request()).unwrap();
    assert!(there.is_live(&lease));
    assert_eq!((there.ledger().refreshes, there.ledger().reuses), (1, 0));
    // From here on it is a login like any other.
    there
        .test
        .clock
        .advance(HOUR - std::time::Duration::from_secs(60));
    assert!(there.is_live(&there.sink().acquire(&request()).unwrap()));
    assert_eq!((there.ledger().refreshes, there.ledger().reuses), (2, 0));
}

#[test]
fn one_that_was_used_elsewhere_is_tried_once_and_named() {
    let home = World::logged_in(strict());
    let bundle = moved(&home);
    let (first, second) = (restored(&home, &bundle), restored(&home, &bundle));
    first.test.clock.advance(HOUR);
    assert!(first.is_live(&first.sink().acquire(&request()).unwrap()));
    let requests = second.test.transport.requests().len();
    let error = second.sink().acquire(&request()).unwrap_err();
    assert_eq!(
        (error.kind(), error.code()),
        (ErrorKind::LoginNeeded, "restored_spent")
    );
    assert!(error.to_string().contains("restored from bundle "), "{error}");
    assert!(
        error.fix().is_some_and(|fix| fix.contains("models auth login")),
        "{error}"
    );
    assert_eq!(
        second.sink().acquire(&request()).unwrap_err().code(),
        "restored_spent"
    );
    assert_eq!(
        second.test.transport.requests().len(),
        requests + 1,
        "sent once, also by a new process"
    );
    let stored = second.stored("main", PROFILE);
    assert!(
        stored["refresh"].as_str().is_some_and(|token| !token.is_empty()),
        "nothing is blanked"
    );
}
