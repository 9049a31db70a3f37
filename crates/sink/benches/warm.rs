//! What a warm `acquire` costs inside a process: real files, real `stat`s, nothing to refresh.
//!
//! `cargo xtask bench` runs it in two ways. `prepare` fills the state dir that the environment names with made-up
//! logins; `measure` opens a sink on it and prints nanoseconds per call as JSON. It judges nothing.
#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark measures the machine and prints what it found"
)]

use std::collections::BTreeMap;
use std::error::Error;
use std::hint::black_box;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use tokensink_sink::{AcquireRequest, AgentId, Host, ProfileId, ProviderId, Sink, UnixMillis, Want};
use tokensink_store::{FileStore, Journal, Paths};
use tokensink_types::record::{Generation, Record, RecordState};
use tokensink_types::{Account, TokenSet};

/// Length of an access token in bytes, as subscriptions issue them.
const TOKEN_BYTES: usize = 2500;
/// A day in the year 2100: nothing falls due while the benchmark runs.
const FAR: i64 = 4_102_444_800_000;
/// When the records say that their tokens were issued: long ago, in the year 2024.
const ISSUED: i64 = 1_704_067_200_000;
/// The two providers whose logins are stored in turn. The first one's access tokens look like JWTs.
const PROVIDERS: [&str; 2] = ["openai-codex", "anthropic"];
/// What is read twice with this pause between is trusted from then on.
const SETTLE: Duration = Duration::from_millis(80);
/// Calls in one timed batch.
const BATCH: u32 = 50;

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| word != "--bench")
        .collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["prepare", profiles, records] => prepare(profiles, *records == "records"),
        ["measure", batches] => measure(batches),
        _ => {
            eprintln!("usage: warm prepare <profiles> records|plain | warm measure <batches>");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Writes the store of main: `profiles` logins, each with its refresh record if `records`.
fn prepare(profiles: &str, records: bool) -> Outcome<()> {
    let count: usize = profiles.parse()?;
    let host = Host::real();
    let paths = Paths::resolve(&*host.env)?;
    let file = paths.profiles_file(&AgentId::main());
    let dir = file.parent().ok_or("the store has no directory")?;
    std::fs::create_dir_all(dir)?;
    let entries: Map<String, Value> = (0..count).map(|n| (profile(n), entry(n))).collect();
    let store = json!({"version": 1, "profiles": entries});
    std::fs::write(&file, format!("{store:#}\n"))?;
    host.files.set_mode(&file, 0o600)?;
    if records {
        let owner = FileStore::new(host.clone(), paths.clone(), true).owner_path(&AgentId::main())?;
        let journal = Journal::new(host, &paths);
        for n in 0..count {
            journal.write(&record(n, &owner)?)?;
        }
    }
    Ok(())
}

fn provider(n: usize) -> &'static str {
    PROVIDERS[n % PROVIDERS.len()]
}

fn profile(n: usize) -> String {
    format!("{}:user{n}@example.com", provider(n))
}

fn access(n: usize) -> String {
    let letters = |count: usize, seed: usize| -> String {
        const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        (0..count)
            .map(|i| char::from(LETTERS[(i * 31 + seed * 17 + i / 7) % LETTERS.len()]))
            .collect()
    };
    if n.is_multiple_of(2) {
        let signature = 342;
        let payload = TOKEN_BYTES - 36 - signature - 2;
        format!(
            "eyJ{}.eyJ{}.{}",
            letters(33, 1),
            letters(payload - 3, n),
            letters(signature, n + 1)
        )
    } else {
        format!("made-up-{}", letters(TOKEN_BYTES - 8, n))
    }
}

fn refresh(n: usize) -> String {
    format!("made-up-refresh-token-{n:060}")
}

fn entry(n: usize) -> Value {
    json!({
        "type": "oauth",
        "provider": provider(n),
        "email": format!("user{n}@example.com"),
        "access": access(n),
        "refresh": refresh(n),
        "accountId": format!("00000000-0000-4000-8000-{n:012}"),
        "expires": FAR,
    })
}

fn record(n: usize, owner: &str) -> Outcome<Record> {
    let generation = Generation {
        tokens: TokenSet {
            access: access(n).into(),
            refresh: Some(refresh(n).into()),
            expires: Some(UnixMillis(FAR)),
            id_token: None,
        },
        account: Account {
            account_id: Some(format!("00000000-0000-4000-8000-{n:012}")),
            email: Some(format!("user{n}@example.com")),
            ..Account::default()
        },
        issued_at: Some(UnixMillis(ISSUED)),
        fields: BTreeMap::new(),
    };
    let id = ProfileId::parse(&profile(n))?;
    let mut record = Record::idle(
        ProviderId::parse(provider(n))?,
        id,
        owner.to_owned(),
        Some(generation),
    );
    record.state = RecordState::Committed {
        at: UnixMillis(ISSUED),
    };
    Ok(record)
}

/// Prints a JSON list: one object per case with the median and the least nanoseconds per call.
fn measure(batches: &str) -> Outcome<()> {
    let batches: u32 = batches.parse()?;
    let host = Host::real();
    let paths = Paths::resolve(&*host.env)?;
    let sink = Sink::open(host.clone())?;
    let (own, heir) = (AgentId::main(), AgentId::normalise("heir"));
    let last = last_profile(&paths)?;
    let wants = [
        ("by provider", Want::Provider(PROVIDERS[0].to_owned())),
        ("by id", Want::Profile(last)),
    ];
    let mut found = Vec::new();
    for (agent, whose) in [(own, "own"), (heir, "inherited")] {
        for (how, want) in &wants {
            let request = AcquireRequest::new(agent.clone(), want.clone());
            let mut call = || sink.acquire(&request).map(|lease| lease.secret.expose().len());
            if call()? != TOKEN_BYTES {
                return Err("the lease is not the token that was stored".into());
            }
            warm_up(&host, &mut call)?;
            found.push(timed(&format!("{how}, {whose}"), batches, &mut call)?);
        }
    }
    let file = paths.profiles_file(&AgentId::main());
    found.push(timed("one bare stat", batches, &mut || {
        host.files.stat(black_box(&file))
    })?);
    println!("{}", Value::Array(found));
    Ok(())
}

fn last_profile(paths: &Paths) -> Outcome<ProfileId> {
    let store: Value = serde_json::from_slice(&std::fs::read(paths.profiles_file(&AgentId::main()))?)?;
    let id = store["profiles"]
        .as_object()
        .and_then(|map| map.keys().next_back())
        .ok_or("no profile")?;
    Ok(ProfileId::parse(id)?)
}

fn warm_up<T, E: Error + 'static>(host: &Host, call: &mut impl FnMut() -> Result<T, E>) -> Outcome<()> {
    for _ in 0..3 {
        host.clock.sleep(SETTLE);
        call()?;
    }
    Ok(())
}

fn timed<T, E: Error + 'static>(
    case: &str,
    batches: u32,
    call: &mut impl FnMut() -> Result<T, E>,
) -> Outcome<Value> {
    let mut nanos = Vec::new();
    for _ in 0..batches {
        let started = Instant::now();
        for _ in 0..BATCH {
            black_box(call()?);
        }
        nanos.push(started.elapsed().as_secs_f64() * 1e9 / f64::from(BATCH));
    }
    nanos.sort_by(f64::total_cmp);
    let median = nanos.get(nanos.len() / 2).copied().unwrap_or_default();
    let least = nanos.first().copied().unwrap_or_default();
    Ok(json!({"case": case, "median_ns": median.round(), "min_ns": least.round()}))
}
