//! What `serve` says when it begins.

use serde_json::{Value, json};
use tokensink_gateway::Running;

use crate::name::Name;

/// Where it listens.
pub(crate) fn listening(running: &Running) -> String {
    let urls: Vec<String> = running
        .addresses()
        .iter()
        .map(|address| format!("http://{address}"))
        .collect();
    let socket = running.socket().map(|path| format!(" and {}", path.display()));
    format!("Listening on {}{}", urls.join(" "), socket.unwrap_or_default())
}

/// `serve --json`.
pub(crate) fn json(running: &Running, pid: u32, version: &str) -> Value {
    let addresses: Vec<String> = running.addresses().iter().map(ToString::to_string).collect();
    json!({ "addresses": addresses, "socket": running.socket(), "pid": pid, "version": version })
}

/// How a client comes to a key and to this address.
pub(crate) fn how_to(addresses: &[String], has_clients: bool, name: Name) -> String {
    let Some(address) = addresses.first() else {
        return String::new();
    };
    if has_clients {
        let text = "Clients need a key: tokensink keys list. Their settings: tokensink serve --help";
        return name.in_commands(text);
    }
    let text = format!(
        "\
No client has a key yet. Make one with: tokensink keys add my-laptop --agent main
and give it to the client, for example:
  Claude Code      export ANTHROPIC_BASE_URL=http://{address} ANTHROPIC_AUTH_TOKEN=<key>
  Anthropic SDKs   export ANTHROPIC_BASE_URL=http://{address} ANTHROPIC_API_KEY=<key>
  OpenAI SDKs      export OPENAI_BASE_URL=http://{address}/v1 OPENAI_API_KEY=<key>
  Codex            codex -c model_provider=sink -c model_providers.sink.name=sink \\
                     -c model_providers.sink.base_url=http://{address}/v1 \\
                     -c model_providers.sink.env_key=SINK_KEY -c model_providers.sink.wire_api=responses
                     with the key in $SINK_KEY
Stop it with Ctrl-C."
    );
    name.in_commands(&text)
}

/// What it means to listen where others can reach it.
pub(crate) fn beyond_loopback(addresses: &[String]) -> String {
    format!(
        "{} can be reached from other machines: whoever reaches it and has a client key uses your accounts, and what \
         is said is not encrypted on the way; put a TLS proxy before it",
        addresses.join(" ")
    )
}
