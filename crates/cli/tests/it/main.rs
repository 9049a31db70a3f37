//! The command as real processes in a home of their own: what people and scripts see.

#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "these tests start real processes and look at the files that they leave"
)]

mod audit;
mod bindings;
mod browser;
mod bundles;
mod chat;
mod client_keys;
mod clients;
mod conformance;
mod cuts;
mod demo;
mod disks;
mod doctor;
mod explain;
mod externals;
mod files;
mod flows;
mod gateway;
mod holders;
mod homes;
mod imports;
mod kills;
mod leases;
mod load;
mod logins;
mod manners;
mod messages;
mod models_and_agents;
mod onboard;
mod outages;
mod plugins;
mod program_imports;
mod programs;
mod readonly;
mod real;
mod real_logins;
mod secrecy;
mod secrets;
mod secrets_docs;
mod seeds;
mod serve;
mod service;
mod sessions;
mod soak;
mod storms;
mod support;
mod wizard;
mod world;
