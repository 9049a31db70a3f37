//! Our own files that a user or another machine writes: settings and bundles.

use std::io::Write as _;

use serde_json::Value;
use tokensink_sink::{BundleImport, Flights, Opener, Sink};
use tokensink_testkit::TestHost;
use tokensink_types::Secret;

use crate::check::{STATE, choice, hides_mark, hides_secrets};
use crate::store::SECRETS;

/// Made for this purpose alone.
const IDENTITY: &str = "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX";

fn machine() -> TestHost {
    let test = TestHost::new();
    test.env.set("OPENCLAW_STATE_DIR", STATE);
    test
}

/// `tokensink/config.toml`: settings that do not parse stop what depends on them, with the place.
pub(crate) fn settings_file(data: &[u8]) {
    const FILE: &str = "/s/tokensink/config.toml";
    let test = machine();
    test.files.put(FILE, data, 0o600);
    let before = test.files.snapshot();
    match Sink::open_with(test.host(), Flights::inline()) {
        Ok(sink) => drop(sink),
        Err(error) => {
            let text = error.to_string();
            assert!(text.contains(FILE) && error.fix().is_some(), "{text}");
            assert_eq!(error.code(), "settings_invalid");
        }
    }
    assert_eq!(test.files.snapshot(), before, "opening creates nothing");
}

/// A bundle of another machine: whatever is in the envelope or is the envelope, a plan changes nothing, and what is
/// brought in can be read.
pub(crate) fn bundle(data: &[u8]) {
    let (mode, data) = choice(data);
    let identity: age::x25519::Identity = IDENTITY.parse().expect("an identity");
    let sealed = if mode % 2 == 0 {
        data.to_vec()
    } else {
        seal(&identity, data)
    };
    let test = machine();
    test.files.put("/b", &sealed, 0o600);
    let sink = Sink::open_with(test.host(), Flights::inline()).expect("an empty state directory");
    let before = test.files.snapshot();
    let request = BundleImport {
        file: "/b".into(),
        agent: None,
    };
    let _ = sink.bundle_wants_passphrase(&request.file);
    let opener = Opener::by_identities(&Secret::new(IDENTITY)).expect("an identity");
    let plan = sink.plan_bundle_import(&request, &opener);
    assert_eq!(test.files.snapshot(), before, "a plan changes nothing");
    if let Ok(document) = serde_json::from_slice::<Value>(data) {
        hides_secrets(&plan, &document, &SECRETS);
    }
    match plan {
        Err(error) => hides_mark(&error.to_string()),
        Ok(plan) => {
            let report = sink.apply_import(&plan);
            hides_mark(&report);
            let again = sink.plan_bundle_import(&request, &opener);
            assert!(again.is_ok(), "{again:?}");
        }
    }
}

fn seal(identity: &age::x25519::Identity, plain: &[u8]) -> Vec<u8> {
    let recipient = identity.to_public();
    let one: &dyn age::Recipient = &recipient;
    let encryptor = age::Encryptor::with_recipients(std::iter::once(one)).expect("a recipient");
    let mut writer = encryptor.wrap_output(Vec::new()).expect("memory");
    writer.write_all(plain).expect("memory");
    writer.finish().expect("memory")
}
