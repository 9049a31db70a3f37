//! A strict OAuth authorization server on loopback, for the demo, the conformance kit and the tests.
//!
//! It promises to be as unforgiving as the strictest real server: PKCE S256 is required (RFC 7636), an authorization
//! code works once (RFC 6749 section 4.1.2), a refresh token works once and its second use revokes the whole family
//! (RFC 9700 section 4.14), and every request is counted in a [`Ledger`] that a test can read afterwards. How strict
//! it is, is configuration ([`ServerConfig`]); what goes wrong, and when, is a script ([`Fault`]).
//!
//! [`AuthorizationServer`] is a state machine without sockets or clock; [`Running`] puts it on a loopback socket.
//! It knows nothing of tokensink's stores, and its accounts and tokens are made up: it protects nothing.

mod config;
mod faults;
mod jwt;
mod ledger;
mod pages;
mod params;
mod provider;
mod running;
mod server;

pub use config::{
    AccountConfig, AnswerConfig, ConfigError, DeviceConfig, ErrorStyle, LoginAnswer, Rotation, ServerConfig,
    TokenFormat,
};
pub use faults::{Endpoint, Fault, FaultAction, GrantType};
pub use ledger::{FamilyRecord, Ledger, RequestRecord, RevokedBecause, fingerprint};
pub use pages::escape as escape_html;
pub use running::{Faults, Running, StartError};
pub use server::{AuthorizationServer, Delivery, Issued, ServerAnswer};
