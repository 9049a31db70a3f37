//! What must hold for whatever bytes strangers send, as functions of bytes that panic where it does not.
//!
//! For the fuzz targets in `fuzz/` and for the tests of this crate, which run every function over the stored corpora. A
//! function goes through the public interface that the product uses, on a machine in memory where the bytes are a file.
//! Beyond "no panic" it asks what the reader promises: what is written reads as what was meant, what nobody asked to
//! change stays, no bound is passed, no secret is in words for people. It does not know how a reader does its work.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a property says what does not hold by panicking"
)]

mod check;
mod config;
mod gateway;
mod login;
mod neighbours;
mod providers;
mod sink;
mod store;
mod wire;

/// A property over any bytes. It panics where something does not hold.
pub type Property = fn(&[u8]);

/// One fuzz target: a reader of foreign bytes and what must hold for it.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// The name of its file in `fuzz/fuzz_targets` and of its directory in `fuzz/corpus`.
    pub name: &'static str,
    /// What must hold.
    pub property: Property,
}

/// All targets, in the order of their names.
pub const TARGETS: &[Target] = &[
    target("bundle", sink::bundle),
    target("callback_request", login::callback_request),
    target("cli_login", neighbours::cli_login),
    target("cli_settings", neighbours::cli_settings),
    target("device_answer", login::device_answer),
    target("error_body", gateway::error_body),
    target("event_stream", gateway::event_stream),
    target("gateway_body", gateway::body),
    target("gateway_model", gateway::model),
    target("gateway_request", gateway::request),
    target("jwt", login::jwt),
    target("legacy_files", store::legacy_files),
    target("metadata_answer", login::metadata_answer),
    target("openclaw_config", config::openclaw_config),
    target("pasted_text", login::pasted_text),
    target("plugin_lines", providers::plugin_lines),
    target("plugin_manifest", providers::plugin_manifest),
    target("profiles_file", store::profiles_file),
    target("provider_file", providers::provider_file),
    target("proxy_login", neighbours::proxy_login),
    target("quota_headers", gateway::quota_headers),
    target("record_pages", store::record_pages),
    target("sessions_file", store::sessions_file),
    target("settings_file", sink::settings_file),
    target("state_file", store::state_file),
    target("token_answer", wire::token_answer),
    target("words", wire::words),
];

const fn target(name: &'static str, property: Property) -> Target {
    Target { name, property }
}

/// The target of this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

/// Runs the property of the target of this name: all that a file in `fuzz/fuzz_targets` does.
///
/// # Panics
/// When the property does not hold, or there is no such target.
pub fn run(name: &str, data: &[u8]) {
    let target = find(name).expect("a target of that name");
    (target.property)(data);
}
