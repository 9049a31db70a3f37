//! The broker: log in, store, hand out, refresh exactly once. This is the public library of tokensink.
//!
//! A [`Sink`] is opened on a [`Host`], reads what is there, and creates nothing until something is stored.
//! [`Sink::acquire`] answers with a [`Lease`]: a valid access token or key, never a refresh token. What it decides, it
//! decides with the pure functions of the policy and refresh crates; this crate performs their decisions.

mod acquire;
mod agents;
mod audit;
mod block;
mod boarding;
mod bundle;
mod calls;
mod chat;
mod child;
mod client_keys;
mod decisions;
pub mod doctor;
mod dress;
mod error;
mod external;
mod flight;
mod flights;
mod gauges;
mod grant;
mod held;
mod import;
mod kept;
mod lease;
mod login;
mod logout;
mod models;
mod onboard;
mod order;
mod owner;
mod paste;
mod plugins;
mod profiles;
mod pulse;
mod refresher;
mod renew;
mod renewal;
mod report;
mod retry;
mod runtime_key;
mod secrets;
mod serve;
mod service;
mod serving;
mod sessions;
mod settings;
mod sink;
mod snapshot;
mod status;
mod turns;
mod view;
mod watch;
#[cfg(test)]
mod world;

pub use agents::bindings::{
    BindConflict, BindReport, BindingInfo, BindingsView, RouteReport, RouteRequest, Unbind, UnbindReport,
};
pub use audit::{AuditCheck, AuditFault, AuditLine, AuditList};
pub use bundle::{BundleImport, ExportPlan, ExportReport, ExportRequest, Exported, Opener, Sealer};
pub use calls::probe::{ProbeReport, ProbeRequest, ProbeRow};
pub use calls::testing::Testing;
pub use calls::{BenchInfo, CallOutcome, Issued, LeaseId, Proof, Reported};
pub use chat::{Chat, ChatAnswer, ChatAttempt, ChatEvent, ChatRequest, Message, Moved, Role, Serving, Usage};
pub use client_keys::{KeyAdd, KeyAdded, KeyCheck, KeyInfo};
pub use decisions::{
    Asked, ExplainAsk, ExplainedAttempt, ExplainedBench, ExplainedChoice, ExplainedProfile, Explanation,
    Recording, Reproduced,
};
pub use error::{ErrorKind, Result, SinkError};
pub use external::{
    ExternalChanged, ExternalInfo, ExternalMode, ExternalScope, ExternalSet, ExternalWire, ExternalWired,
    ProofOutcome, WireProof,
};
pub use flights::{FlightArgs, Flights};
pub use gauges::{Gauges, ProfileGauge, metric_label};
pub use import::{
    EnvImport, ImportAction, ImportFailure, ImportOrder, ImportPlan, ImportReport, ImportRow, OpenClawImport,
    ProgramImport, Shared,
};
pub use lease::{AcquireRequest, ChildEnvironment, Lease, Spendable, WAIT, Want};
pub use login::{
    Cancel, LoginEvent, LoginOutcome, LoginRequest, LoginUi, MethodChoice, PasteRequest, PromptKind,
    PromptOption, ProviderChoice, Question,
};
pub use models::ModelTarget;
pub use onboard::{
    AuthChoice, CustomDefined, CustomProvider, FoundKey, GivenSecret, GuestOutcome, KeyChange, KeyOrigin,
    KeyOutcome, KeyRequest, ModelWish,
};
pub use plugins::{
    CheckOptions, CheckReport, FileFate, PlannedFile, PlannedProgram, PlannedProvider, PluginChange,
    PluginInfo, PluginKind, PluginPlan, PluginState, Scenario,
};
pub use renewal::{RenewStep, Renewal, Renewing};
pub use report::{
    AgentAdd, AgentAdded, AgentDeleted, AgentInfo, Bench, Benched, Counts, EnvKey, LogoutReport,
    MissingProvider, ModelInfo, ModelsView, OrderView, ProfileInfo, ProfileOrigin, ProfileState,
    ProfileStatus, ProviderStatus, RenewOutcome, RenewReport, RenewResult, RetryReport, Revocation,
    StatusReport, StatusScope,
};
pub use secrets::{
    ApplyOptions, SecretCandidate, SecretFinding, SecretProviderInfo, SecretsApplied, SecretsAudit,
    SecretsPlan, SecretsReload,
};
pub use service::{ServiceManagerKind, ServicePlan, ServiceRequest, ServiceStatus};
pub use serving::{Announcement, PortHolder, ServerInfo};
pub use sessions::{CommandReply, SessionInfo, SessionPinInfo, SessionsView};
pub use sink::Sink;
pub use tokensink_host::Host;
pub use tokensink_policy::HealthStatus as Health;
pub use tokensink_policy::bench::{Bucket, PROBE_PULSE};
pub use tokensink_policy::bindings::{Binding, Degree, Peer};
pub use tokensink_policy::chain::{Attempt, Model};
pub use tokensink_policy::classify::{Blame, Class, Reason};
pub use tokensink_policy::failover;
pub use tokensink_policy::pin::PinSource;
pub use tokensink_policy::quota::{Reading, Source as ReadingSource};
pub use tokensink_providers::{self as providers, Betas, Registry};
pub use tokensink_types::{
    Account, AgentId, BillingClass, CredentialKind, DurationUnit, MethodId, ProfileId, ProviderId, Secret,
    SessionKey, SessionKeyError, UnixMillis, parse_duration, short_remaining,
};
pub use turns::{Turn, Turns};
pub use watch::Watch;
