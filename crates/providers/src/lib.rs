//! Provider definitions as data: the built-in ones and the user's, merged, checked and joined with the OAuth request
//! builders.
//!
//! A provider is a TOML file. The built-in definitions are written in the format of the user's files, so that each
//! of them is also an example. What it promises: a definition that reaches a caller is complete and consistent; a
//! file that is not names its line, its field and what is allowed, and takes nothing else down; credentials go to
//! https endpoints or to this machine only. What it deliberately does not know: files, environment, network and
//! clock. Texts, variables and instants are arguments.
//!
//! | to do | see |
//! |---|---|
//! | load and look up providers | [`Registry`] |
//! | check a file, list the fields | [`check`], [`draft`], [`format_reference`] |
//! | read other people's plugins | [`plugin`] |
//! | what a provider is | [`Definition`], [`Method`], [`Flow`] |
//! | which method a credential belongs to | [`Definition::method_for`] |
//! | the headers of a lease | [`ApiShape::lease_headers`] |
//! | requests to an authorization server | [`OAuthClient`], [`PkceFlow`], [`DeviceFlow`], [`RuntimeKey`] |

mod build;
mod builtin;
mod check_file;
mod check_value;
mod choice;
mod definition;
mod hosts;
mod lease;
mod login;
mod merge;
mod origin;
pub mod plugin;
mod problem;
mod reference;
mod registry;
mod requests;
mod runtime_key;
mod schema;
mod select;
mod tree;

#[cfg(test)]
mod tests;

pub use check_value::is_loopback;
pub use choice::{ChoiceRef, UnknownChoice};
pub use definition::{
    ApiKind, ApiShape, Choice, Definition, DeviceDialect, DeviceFlow, EnvVar, ExternalLogin, Flow, Identity,
    IdentitySource, Method, OAuthClient, Pairs, PkceFlow, ProfileName, ProgramFlow, Redirect, RedirectMode,
    RequestShape, RequiredIdentity, RuntimeKey, RuntimeKeyDialect, SecretSetting, Setting, StateSource,
    TokenCheck,
};
pub use lease::{Betas, LeaseError};
pub use login::TokenProblem;
pub use origin::{FieldOrigin, Origin};
pub use problem::{Problem, nearest};
pub use reference::{FormatField, format_reference};
pub use registry::{EnvName, Registry, UnknownProvider, UserFile, check, draft};
pub use requests::{BuildError, DeviceLogin, Env, MissingIdentity, ResolvedClient, UntrustedEndpoint};
pub use runtime_key::{RuntimeCredential, RuntimeKeyError};
pub use select::UnknownMethod;
