//! Plays scenarios, several at once, and collects what came of them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use tokensink_host::Host;

use crate::client::Client;
use crate::process::Stop;
use crate::report::{Judged, Report, Verdict};
use crate::scenarios::{SCENARIOS, Scenario};
use crate::stage::Stage;

/// What to play.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Only the scenarios with these ids; empty for all.
    pub only: Vec<String>,
    /// How many at once; 0 leaves it to the program's adapter.
    pub jobs: usize,
    /// Ends the run soon, with what is judged by then.
    pub stop: Stop,
}

/// How far it is.
#[derive(Debug)]
pub struct Progress<'a> {
    /// The scenario that was just judged.
    pub judged: &'a Judged,
    /// How many are judged, this one among them.
    pub done: usize,
    /// How many there are.
    pub all: usize,
}

/// Plays the scenarios with `client` and judges it. `told` hears of each scenario when it is over.
///
/// # Errors
/// A sentence that names the ids that no scenario has.
pub fn run(
    host: &Host,
    client: &dyn Client,
    options: &Options,
    told: &mut dyn FnMut(&Progress<'_>),
) -> Result<Report, String> {
    let chosen = chosen(&options.only)?;
    let jobs = if options.jobs == 0 {
        client.jobs()
    } else {
        options.jobs
    };
    let next = AtomicUsize::new(0);
    let mut judged: Vec<Judged> = Vec::new();
    std::thread::scope(|scope| {
        let (sender, receiver) = mpsc::channel();
        for _ in 0..jobs.clamp(1, chosen.len().max(1)) {
            let (sender, next, chosen) = (sender.clone(), &next, &chosen);
            scope.spawn(move || {
                while let Some(scenario) = chosen.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if options.stop.is_set() {
                        return;
                    }
                    // Whoever listens does so to the end.
                    let _heard = sender.send(play(host, client, scenario, &options.stop));
                }
            });
        }
        drop(sender);
        for one in receiver {
            told(&Progress {
                judged: &one,
                done: judged.len() + 1,
                all: chosen.len(),
            });
            judged.push(one);
        }
    });
    judged.sort_by_key(|one| {
        SCENARIOS
            .iter()
            .position(|scenario| scenario.id == one.scenario.id)
    });
    Ok(Report {
        client: client.name().to_owned(),
        version: client.version().to_owned(),
        judged,
    })
}

fn chosen(only: &[String]) -> Result<Vec<&'static Scenario>, String> {
    let unknown: Vec<&str> = only
        .iter()
        .map(String::as_str)
        .filter(|id| SCENARIOS.iter().all(|scenario| scenario.id != *id))
        .collect();
    if !unknown.is_empty() {
        return Err(format!("there is no scenario {}", unknown.join(", ")));
    }
    let is_wanted = |scenario: &&Scenario| only.is_empty() || only.iter().any(|id| id == scenario.id);
    Ok(SCENARIOS.iter().filter(is_wanted).collect())
}

fn play(host: &Host, client: &dyn Client, scenario: &'static Scenario, stop: &Stop) -> Judged {
    let began = host.clock.monotonic();
    let verdict = Stage::open(host, client, scenario, stop)
        .and_then(|mut stage| (scenario.play)(&mut stage))
        .unwrap_or_else(|trouble| Verdict::NotJudged(trouble.to_string()));
    let verdict = match verdict {
        // What was seen of processes that we killed says nothing.
        _ if stop.is_set() => Verdict::NotJudged("it was interrupted".to_owned()),
        verdict => verdict,
    };
    let took = host.clock.monotonic().saturating_sub(began);
    Judged {
        scenario,
        verdict,
        millis: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
    }
}
