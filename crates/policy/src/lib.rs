//! Which profile serves a request, and why: pure functions of configuration, state, request and time.
//!
//! * [`eligibility()`] says whether a stored profile can be used at all. It is the only place that knows the rules;
//!   order, selection and health ask it.
//! * [`resolve_order`] puts the eligible profiles of a provider into the sequence in which they are tried.
//! * [`select`] takes the first that may be used now.
//! * [`mod@bench`] says how long a profile that failed is not tried, and for what.
//! * [`bindings`] says which agent a message is for, [`directive`] what a chat command asks.
//! * [`pin`] says which profile a session stays with.
//! * [`chain`] says which models are tried one after the other.
//! * [`failover`] says what comes after a call that did not succeed.
//! * [`quota`] reads what providers say of their limits, and how long to wait.
//! * [`classify`] says what a failed call means, by a table of rules with ids.
//! * [`record`] keeps a decision with its inputs, so that it can be made again.
//! * [`health`] gives the words of `models status` and the exit code of its `--check`.
//!
//! Every result carries a verdict for every profile that was looked at, so that a decision can be explained from
//! its recorded inputs. No input holds a secret: [`CredentialFacts`] is what this crate knows of a credential.
//! It knows neither files, nor HTTP, nor the clock, and nothing here can panic.

mod aliases;
pub mod bench;
pub mod bindings;
mod candidate;
pub mod chain;
pub mod classify;
mod config;
pub mod directive;
pub mod eligibility;
pub mod failover;
pub mod health;
mod order;
pub mod pin;
pub mod quota;
pub mod record;
mod select;
#[cfg(test)]
mod worlds;

pub use aliases::ProviderAliases;
pub use candidate::{
    Candidate, CredentialFacts, CredentialForm, Inline, Material, Ours, References, Usage, Window, WindowKind,
};
pub use config::{Config, ConfigProfile, DenyRule, ProviderOrders, State, Used};
pub use eligibility::{
    Ask, Eligibility, EligibilityCode, OAuthRefError, Purpose, check_oauth_refs, eligibility,
};
pub use health::{
    CheckExit, CheckScope, HealthStatus, ProfileHealth, ProviderHealth, ProviderInUse, UnusableProfile,
    check_exit_code, missing_in_use, unusable_profiles,
};
pub use order::{Barrier, OrderInput, OrderSource, ResolvedOrder, Rule, Verdict, order_mark, resolve_order};
pub use select::{Choice, Decision, Outcome, Request, SessionPin, Soonest, Target, Unavailable, select};
