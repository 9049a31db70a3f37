//! Logging in: what the caller gives and is given. The flows are in the modules below.

pub(crate) mod choose;
mod device;
mod discover;
mod exchange;
mod identity;
pub(crate) mod keep;
mod names;
mod page;
mod pkce;
pub(crate) mod program;
mod race;
pub(crate) mod run;
#[cfg(test)]
pub(crate) mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

pub use tokensink_providers::plugin::protocol::{PromptKind, PromptOption};
use tokensink_types::{
    Account, AgentId, CredentialKind, MethodId, ProfileId, ProviderId, Secret, UnixMillis,
};

/// The method id of tokens that `claude setup-token` makes (spec.md 11.7).
pub(crate) const SETUP_TOKEN: &str = "setup-token";

/// How a login talks to the person in front of it. The CLI has one for terminals, tests a scripted one.
pub trait LoginUi: Sync {
    /// Can somebody answer a prompt?
    fn interactive(&self) -> bool;
    /// Shows what is going on.
    fn show(&self, event: LoginEvent<'_>);
    /// Asks for a pasted redirect URL or code. Blocks until a line that is not blank is there; `None` when `cancel`
    /// was set meanwhile or the input has ended.
    fn ask_paste(&self, prompt: &str, cancel: &Cancel) -> Option<String>;
    /// The person wants no more of this login. Looked at whenever something is waited for.
    fn given_up(&self) -> bool {
        false
    }
    /// Asks what a plugin's program wants to know: text, `yes` or `no`, or the value of an option. `None` when nobody
    /// answers, which is all that somebody without an answer has to say.
    fn ask(&self, _question: &Question<'_>) -> Option<Secret> {
        None
    }
}

/// A question of a plugin's program. Its words are the program's, cleaned of control characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Question<'a> {
    /// The program's id for it.
    pub id: &'a str,
    /// The plugin.
    pub asker: &'a str,
    /// How it is asked.
    pub kind: PromptKind,
    /// The question.
    pub text: &'a str,
    /// The answers to choose from, for [`PromptKind::Select`].
    pub options: &'a [PromptOption],
}

/// Set once, by the first valid answer, so that the other ways of answering end.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Tells everybody who looks that the wait is over.
    pub fn set(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// Is the wait over?
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

impl From<Arc<AtomicBool>> for Cancel {
    /// Set together with a flag of the caller's, for example by a signal.
    fn from(flag: Arc<AtomicBool>) -> Self {
        Self(flag)
    }
}

/// What is going on during a login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum LoginEvent<'a> {
    /// The provider's policy note.
    Notice(&'a str),
    /// The page where the user approves.
    OpenUrl {
        /// Its address.
        url: &'a str,
        /// True when a browser was started on it.
        opened: bool,
        /// Why none was, in words.
        why_not: Option<&'a str>,
    },
    /// A code to type on another device (RFC 8628 section 3.3).
    DeviceCode {
        /// The code.
        user_code: &'a str,
        /// Where to type it.
        verification_uri: &'a str,
        /// The same with the code in it, where the server gave one.
        complete: Option<&'a str>,
        /// How long it is valid.
        expires_in: Duration,
        /// True when it is one way of several: the page of [`LoginEvent::OpenUrl`] was shown before.
        beside: bool,
    },
    /// A code for another device cannot be had, or is over; the other ways go on.
    DeviceFailed {
        /// Why.
        reason: &'a str,
    },
    /// The redirect is awaited here.
    Listening {
        /// The redirect URI.
        uri: &'a str,
    },
    /// The redirect cannot be awaited; pasting still works.
    ListenerFailed {
        /// Why, and what to do.
        reason: &'a str,
    },
    /// An answer, pasted or at the listener, did not do; the next may.
    PasteRefused {
        /// Why.
        reason: &'a str,
    },
    /// An answer came and is being exchanged for tokens.
    Exchanging,
    /// The server asked us to poll less often.
    SlowedDown,
    /// A plugin's program says something.
    Plugin {
        /// The plugin.
        plugin: &'a str,
        /// Its words, cleaned of control characters.
        text: &'a str,
    },
}

/// A login to make.
#[derive(Debug, Clone)]
pub struct LoginRequest {
    /// The agent whose store takes it.
    pub agent: AgentId,
    /// Provider id or alias.
    pub provider: String,
    /// The method; the default is the provider's first that fits.
    pub method: Option<MethodId>,
    /// The profile id; the default follows from the identity.
    pub profile_id: Option<ProfileId>,
    /// Make the provider's default model the default.
    pub set_default: bool,
    /// Use the device flow.
    pub device_code: bool,
    /// Do not start a browser.
    pub no_browser: bool,
}

/// A token or key to store.
#[derive(Debug, Clone)]
pub struct PasteRequest {
    /// The agent whose store takes it.
    pub agent: AgentId,
    /// Provider id or alias.
    pub provider: String,
    /// The profile id; the default is `<provider>:manual`.
    pub profile_id: Option<ProfileId>,
    /// When the token ends, from now.
    pub expires_in: Option<Duration>,
    /// The text must be a setup-token of the provider.
    pub setup_token: bool,
}

/// A login that was made.
#[derive(Debug, Clone)]
pub struct LoginOutcome {
    /// The profile that holds it.
    pub profile: ProfileId,
    /// Its provider.
    pub provider: ProviderId,
    /// What kind of credential was stored.
    pub mode: CredentialKind,
    /// The verified identity.
    pub account: Account,
    /// True when the same identity was logged in before and its profile was updated.
    pub updated: bool,
    /// The file that holds it.
    pub store_path: PathBuf,
    /// When the access token ends.
    pub expires: Option<UnixMillis>,
    /// The provider's default model, and whether it was set.
    pub default_model: Option<(String, bool)>,
    /// What else the user should know.
    pub notes: Vec<String>,
    /// The provider's policy note.
    pub notice: Option<String>,
}

/// A provider that can be logged in to, for pickers.
#[derive(Debug, Clone)]
pub struct ProviderChoice {
    /// Its id.
    pub id: ProviderId,
    /// Its name.
    pub name: String,
    /// Its methods.
    pub methods: Vec<MethodChoice>,
}

/// A method, for pickers.
#[derive(Debug, Clone)]
pub struct MethodChoice {
    /// Its id.
    pub id: MethodId,
    /// `pkce`, `device`, `token`, `api_key`, `external` or `program`.
    pub kind: &'static str,
    /// A line for people.
    pub label: String,
}
