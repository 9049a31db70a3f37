//! Outages over the real transport: a thousand tries each, and the login works at the first call after the end.

use std::time::Duration;

use tokensink_authserver::{Fault, FaultAction, GrantType, ServerConfig};
use tokensink_host::{Clock as _, ConnectPhase};
use tokensink_sink::ErrorKind;
use tokensink_testkit::{How, Plan, Way};

use crate::support::wire::{HOUR, Wire, nobody, stranger};

const TRIES: usize = 1_000;
/// Tries with a name that is really asked for, which takes a moment each where there is a name server.
const LOOKUPS: usize = 10;
/// Patience of a caller that comes when all is over: a server's last back-off may still run.
const PATIENCE: Duration = Duration::from_secs(90);

/// Tries for as long as the fault lasts. Every call comes as early as the last answer allowed, so that each is a try.
fn suffer(wire: &Wire, tries: usize, break_it: impl Fn(usize)) {
    let before = wire.stored();
    for n in 0..tries {
        break_it(n);
        let error = wire.acquire(Duration::ZERO).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TryAgain, "try {n}: {error}");
        assert_eq!(wire.stored(), before, "try {n}");
        if let Some(at) = error.retry_at() {
            wire.test.clock.advance(wire.test.clock.now().until(at));
        }
    }
}

/// The first call after the fault.
#[expect(clippy::print_stdout, reason = "everything counted is printed")]
fn recover(name: &str, wire: &Wire, tries: usize) {
    wire.server.faults().clear();
    wire.proxy.clear();
    wire.lead_to(None);
    let lease = wire
        .acquire(PATIENCE)
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    assert!(wire.is_live(&lease), "{name}");
    assert_eq!(wire.stored()["access"], lease.secret.expose(), "{name}");
    let ledger = wire.server.ledger();
    assert_eq!((ledger.refreshes, ledger.reuses), (1, 0), "{name}: {ledger:#?}");
    println!("{name}: {tries} tries, then the first call worked; 0 reuses, 0 logins");
}

fn logged_in_an_hour_ago() -> Wire {
    let wire = Wire::logged_in(ServerConfig::default());
    wire.test.clock.advance(HOUR);
    wire
}

/// Connections that fail in one phase, and therefore cost nothing.
fn no_connection(name: &str, urls: &[(String, usize)], phase: ConnectPhase) {
    let wire = logged_in_an_hour_ago();
    let mut tries = 0;
    for (url, count) in urls {
        wire.lead_to(Some(url));
        suffer(&wire, *count, |_| {});
        tries += count;
    }
    let failed = wire.failed_connections();
    assert_eq!(failed.len(), tries, "{name}: every call was a try");
    assert!(
        failed.iter().all(|found| *found == phase),
        "{name}: {:?}",
        failed.last()
    );
    assert_eq!(wire.server.ledger().requests_total, 0, "{name}");
    recover(name, &wire, tries);
}

#[test]
fn names_are_not_resolved() {
    // No name is longer than 63 letters (RFC 1035 section 2.3.4), so the second is refused by the resolver itself.
    let (asked, refused) = ("login.invalid", format!("{}.invalid", "a".repeat(64)));
    let urls = [(asked, LOOKUPS), (&refused, TRIES - LOOKUPS)];
    let urls = urls.map(|(name, count)| (format!("https://{name}/"), count));
    no_connection("DNS down", &urls, ConnectPhase::Dns);
}

#[test]
fn connections_are_refused() {
    let url = format!("http://{}/", nobody());
    no_connection("refused", &[(url, TRIES)], ConnectPhase::Tcp);
}

#[test]
fn tls_fails() {
    let stranger = format!("https://localhost:{}/", stranger().port());
    no_connection(
        "TLS failure: unknown authority",
        &[(stranger, TRIES)],
        ConnectPhase::Tls,
    );
    let plain = Wire::logged_in(ServerConfig::default());
    let url = format!("https://127.0.0.1:{}/", plain.server.base_url().port().unwrap());
    no_connection("TLS failure: not TLS at all", &[(url, TRIES)], ConnectPhase::Tls);
}

/// A fault of the server: each try reaches it, and nothing is spent.
fn answered(name: &str, action: FaultAction) {
    let wire = logged_in_an_hour_ago();
    let times = u32::try_from(TRIES).unwrap();
    wire.server.faults().push(Fault::on_refresh(action).times(times));
    suffer(&wire, TRIES, |_| {});
    let ledger = wire.server.ledger();
    assert_eq!(ledger.posts(GrantType::RefreshToken), u64::from(times), "{name}");
    recover(name, &wire, TRIES);
}

#[test]
fn the_server_answers_500_and_503() {
    for (status, body) in [(500, "{}"), (503, "<html>maintenance</html>")] {
        let body = body.to_owned();
        answered(&status.to_string(), FaultAction::Status { status, body });
    }
}

#[test]
fn the_connection_is_cut_before_the_server_acted() {
    answered(
        "cut by the server before it acted",
        FaultAction::CutBeforeHandling,
    );
    let wire = logged_in_an_hour_ago();
    suffer(&wire, TRIES, |n| {
        // A request is longer.
        let how = [How::Close, How::Reset, How::HalfClose][n % 3];
        wire.proxy.next(Plan::cut(Way::Up, n % 250, how));
    });
    let ledger = wire.server.ledger();
    assert_eq!(ledger.refreshes, 0);
    assert_eq!(
        wire.proxy.passed().iter().filter(|passed| passed.cut).count(),
        TRIES
    );
    recover("cut on the way to the server", &wire, TRIES);
}
