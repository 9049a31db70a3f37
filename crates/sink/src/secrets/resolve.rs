//! Looking references up, each provider once and several providers at once (spec.md 16.3).
//!
//! Knows no memory: what is asked for is looked up now. Each reference gets an answer of its own, so that one that
//! fails says so and hinders no other.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use tokensink_host::Host;
use tokensink_types::Secret;

use super::config::{Limits, Problem, Provider, SecretsConfig};
use super::reference::{Failure, Reference, Source};
use super::value;
use super::{exec, file};

/// What was found for each reference.
pub(super) type Found = HashMap<Reference, Result<Secret, Failure>>;

/// The references of one provider.
struct Batch {
    provider: Result<Provider, Problem>,
    references: Vec<Reference>,
}

/// Looks all of them up.
pub(super) fn resolve(host: &Host, config: &SecretsConfig, references: &BTreeSet<Reference>) -> Found {
    let mut batches: BTreeMap<(Source, &str), Vec<Reference>> = BTreeMap::new();
    for reference in references {
        let key = (reference.source, &*reference.provider);
        batches.entry(key).or_default().push(reference.clone());
    }
    let queue: VecDeque<Batch> = batches
        .into_iter()
        .map(|((source, alias), references)| Batch {
            provider: config.provider(source, alias),
            references,
        })
        .collect();
    let limits = config.limits();
    if queue.len() <= 1 {
        return queue
            .into_iter()
            .flat_map(|batch| batch.resolve(host, limits))
            .collect();
    }
    at_once(host, limits, queue)
}

/// Works through the batches with as many threads as are allowed.
fn at_once(host: &Host, limits: Limits, queue: VecDeque<Batch>) -> Found {
    let workers = limits.concurrency.min(queue.len());
    let queue = Mutex::new(queue);
    let found = Mutex::new(Found::new());
    let work = || {
        let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        while let Some(batch) = next() {
            let resolved = batch.resolve(host, limits);
            found
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .extend(resolved);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..workers {
            // Where no further thread can be had, those that run do the work.
            let _fewer = std::thread::Builder::new()
                .name("secrets".to_owned())
                .spawn_scoped(scope, work);
        }
        work();
    });
    found.into_inner().unwrap_or_else(PoisonError::into_inner)
}

impl Batch {
    fn resolve(self, host: &Host, limits: Limits) -> Vec<(Reference, Result<Secret, Failure>)> {
        let results = self.results(host, limits);
        self.references.into_iter().zip(results).collect()
    }

    fn results(&self, host: &Host, limits: Limits) -> Vec<Result<Secret, Failure>> {
        let references = &self.references;
        let all =
            |fail: &dyn Fn(&Reference) -> Failure| references.iter().map(|one| Err(fail(one))).collect();
        let provider = match &self.provider {
            Ok(provider) => provider,
            Err(problem) => return all(&|reference| misconfigured(reference, problem)),
        };
        if references.len() > limits.refs {
            let cause = format!(
                "{} references name this provider, and at most {} are resolved together",
                references.len(),
                limits.refs
            );
            let fix = "raise secrets.resolution.maxRefsPerProvider, or spread them over several providers";
            return all(&|reference| reference.failed(None, &*cause, fix));
        }
        match provider {
            Provider::Env(provider) => references
                .iter()
                .map(|reference| from_environment(host, provider.allowlist.as_deref(), reference))
                .collect(),
            Provider::File(provider) => file::resolve(host, provider, references),
            Provider::Exec(provider) => exec::resolve(host, provider, limits.batch_bytes, references),
        }
    }
}

/// The provider's entry is missing or wrong.
pub(super) fn misconfigured(reference: &Reference, problem: &Problem) -> Failure {
    Failure {
        reference: reference.to_string(),
        key: Some(problem.key.clone()),
        cause: problem.why.clone(),
        fix: format!(
            "correct {} in openclaw.json, or add the provider with `tokensink secrets configure`",
            problem.key
        ),
    }
}

fn from_environment(
    host: &Host,
    allowlist: Option<&[String]>,
    reference: &Reference,
) -> Result<Secret, Failure> {
    let name = &reference.id;
    if allowlist.is_some_and(|list| !list.contains(name)) {
        return Err(reference.failed(
            Some("allowlist"),
            format!("{name} is not on the provider's allowlist"),
            format!("add {name} to {}.allowlist", reference.key()),
        ));
    }
    let unset = || Failure {
        key: None,
        ..reference.failed(
            None,
            format!("the environment variable {name} is not set, or empty"),
            format!("set {name} in the environment of the caller"),
        )
    };
    let text = host.env.var(name).ok_or_else(unset)?;
    value::usable(&text).map_err(|blank| {
        reference.failed(
            None,
            format!("the environment variable {name} {blank}"),
            format!("set {name} to the secret itself"),
        )
    })
}
