//! `serve`: the gateway.

use std::net::IpAddr;

use clap::{Args, ValueEnum};

const EXAMPLES: &str = "\
Settings of clients, with a key of `tokensink keys add <name> --agent <id>`:
  Claude Code      ANTHROPIC_BASE_URL=http://127.0.0.1:7465 ANTHROPIC_AUTH_TOKEN=<key>
  Anthropic SDKs   ANTHROPIC_BASE_URL=http://127.0.0.1:7465 ANTHROPIC_API_KEY=<key>
  OpenAI SDKs      OPENAI_BASE_URL=http://127.0.0.1:7465/v1 OPENAI_API_KEY=<key>
  Codex            see docs/gateway.md
Local programs get leases without a key on <state dir>/tokensink/run/gateway.sock.";

/// The port where none is given: SINK on a telephone's keys.
pub(crate) const PORT: u16 = 7465;

/// How the lines of the log look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One object per line.
    Json,
}

/// `serve`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ServeArgs {
    /// The port; 0 takes a free one
    #[arg(long, value_name = "N", default_value_t = PORT)]
    pub(crate) port: u16,

    /// The address to listen on; another than a loopback one lets other machines in
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    pub(crate) host: IpAddr,

    /// A further host name by which clients reach the gateway, e.g. host.docker.internal; may be repeated
    #[arg(long, value_name = "NAME")]
    pub(crate) allow_host: Vec<String>,

    /// Do not serve the Unix socket
    #[arg(long)]
    pub(crate) no_socket: bool,

    /// Threads of the event loop (default: one per processor)
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub(crate) workers: usize,

    /// How the lines of the log look, whatever the environment says
    #[arg(long, value_name = "FORM", value_enum)]
    pub(crate) log_format: Option<LogFormat>,

    /// Print an object once it serves
    #[arg(long)]
    pub(crate) json: bool,
}
