//! References from the profile to the lease, and the commands that look after them, on a machine in memory.

mod commands;
mod lookup;

use serde_json::{Value, json};

use crate::world::World;

/// The program of the provider `vault`.
const COMMAND: &str = "/home/user/bin/vault-get";
/// The file of the provider `disk`.
const FILE: &str = "/home/user/secrets.json";

fn with_ref(reference: &Value) -> Value {
    json!({"type": "api_key", "provider": "rig", "keyRef": reference})
}

fn exec_ref(id: &str) -> Value {
    json!({"source": "exec", "provider": "vault", "id": id})
}

/// Every bounded program answers with this.
fn answer(world: &World, value: Value) {
    world
        .test
        .processes
        .on_start(move |_| Ok(value.to_string().into_bytes()));
}

fn runs(world: &World) -> usize {
    let started = world.test.processes.started();
    let bounded = |one: &&tokensink_testkit::Started| one.start == tokensink_testkit::Start::Bounded;
    started.iter().filter(bounded).count()
}
