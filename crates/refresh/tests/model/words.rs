//! States in words, for a story that ends badly.

use std::fmt::Debug;

use crate::model::{Facts, Refreshing};
use crate::shared::machine::Machine;
use crate::state::{START, State};
use crate::tables::Id;

impl<M: Machine + Clone + Debug + PartialEq> Refreshing<M> {
    /// What of `after` is not as it was `before`.
    pub(crate) fn changes(&self, before: Option<&State>, after: &State) -> String {
        let earlier = before.map(|before| self.lines(before)).unwrap_or_default();
        let lines = self.lines(after).into_iter();
        let changed: Vec<String> = lines.filter(|line| !earlier.contains(line)).collect();
        changed.join("\n")
    }

    fn lines(&self, state: &State) -> Vec<String> {
        let server = self.servers.get(state.server);
        let mut lines = vec![
            format!("    time {} skew {}", seconds(state.time), state.skew / 1000),
            format!("    server at r{} revoked {}", server.refresh, server.revoked),
            format!("    neighbour {:?}", state.neighbour),
            format!("    requests {:?}", self.requests.get(state.past.requests)),
            format!("    harm {} broken {}", state.past.harm, state.past.broken),
        ];
        for (name, place) in ["main", "copy"].iter().zip(&state.places) {
            lines.push(format!("    {name} store {}", tokens(&self.facts(place.store))));
            lines.push(format!("    {name} record {}", self.record_words(place.record)));
        }
        for (slot, process) in state.processes.iter().enumerate() {
            if let Some(flying) = &process.flying {
                let line = format!(
                    "    process {slot} pid {}: {:?} {:?} paused {}",
                    flying.pid, flying.act, flying.wire, flying.paused
                );
                lines.push(line);
            }
        }
        lines
    }

    fn record_words(&self, record: Id) -> String {
        let facts = self.record_facts(record);
        let record = self.tables.records.get(record);
        let Some(record) = (*record).as_ref() else {
            return "none".to_owned();
        };
        let generation = facts.generation.map(|facts| tokens(&facts));
        let until = record
            .backoff
            .as_ref()
            .map(|backoff| seconds(backoff.not_before.0));
        let state = format!("{:?}", record.state);
        let state: String = state.chars().take(90).collect();
        let rotation = record.rotation;
        format!("{generation:?} back-off {until:?} {rotation:?} {state}")
    }
}

fn seconds(time: i64) -> i64 {
    (time - START.0) / 1000
}

fn tokens(facts: &Facts) -> String {
    let (refresh, access, end) = (facts.refresh, facts.access, seconds(facts.expires));
    format!("r{refresh:?} a{access} until {end} foreign {}", facts.foreign)
}
