//! What a run with questions came to: decided in full before any of it is done.

use tokensink_sink::{AuthChoice, ExternalMode, GivenSecret};

use crate::args::CustomArgs;
use crate::commands::onboard::CUSTOM;
use crate::render::{Look, colour};

/// One thing to do.
pub(super) enum Step {
    /// Log in with somebody's approval.
    Login(Box<AuthChoice>),
    /// Define a provider and store its key.
    Custom(Box<CustomArgs>, GivenSecret),
    /// Store a key or token.
    Key(Box<AuthChoice>, GivenSecret),
    /// Use the login of another program.
    Guest(Box<Guest>),
}

/// The login of another program, and how it is to be used.
pub(super) struct Guest {
    /// The program's word.
    pub(super) cli: String,
    /// Its name for people.
    pub(super) title: String,
    /// The profile that the login is.
    pub(super) profile: String,
    /// How it is used.
    pub(super) mode: ExternalMode,
    /// Its auth choice, where it has one.
    pub(super) choice: Option<AuthChoice>,
}

impl Step {
    /// The auth choice, where it is one of a provider's.
    pub(super) fn choice(&self) -> Option<&AuthChoice> {
        match self {
            Self::Login(choice) | Self::Key(choice, _) => Some(choice),
            Self::Guest(guest) => guest.choice.as_ref(),
            Self::Custom(..) => None,
        }
    }

    /// The word of the auth choice.
    pub(super) fn id(&self) -> &str {
        match self {
            Self::Guest(guest) => guest.choice.as_ref().map_or(&guest.cli, |choice| &choice.id),
            Self::Login(choice) | Self::Key(choice, _) => &choice.id,
            Self::Custom(..) => CUSTOM,
        }
    }

    fn words(&self) -> String {
        match self {
            Self::Login(choice) => format!("log in: {} -> {}", choice.name, choice.leaves),
            Self::Key(choice, GivenSecret::Env(name)) => format!("store {name} -> {}", choice.leaves),
            Self::Key(choice, GivenSecret::Value(_)) => {
                format!("store what was typed ({}) -> {}", choice.name, choice.leaves)
            }
            Self::Guest(guest) if guest.mode == ExternalMode::Owned => format!(
                "move the login of {0} in; {0} is signed out until it is wired to tokensink",
                guest.title
            ),
            Self::Guest(guest) => {
                format!(
                    "use the login of {}, {} -> {}",
                    guest.title, guest.mode, guest.profile
                )
            }
            Self::Custom(custom, _) => format!(
                "define the provider at {} and store its key",
                custom.custom_base_url.as_deref().unwrap_or_default()
            ),
        }
    }
}

/// All that was decided.
#[derive(Default)]
pub(super) struct Plan {
    /// What to do, in this order.
    pub(super) steps: Vec<Step>,
    /// Whether the login of the first step is tried before the others of its provider; `None` leaves the order alone.
    pub(super) first: Option<bool>,
    /// The choice whose model becomes the default.
    pub(super) model: Option<String>,
}

impl Plan {
    /// The plan for people, with the policy notes of what is not a login: a login shows its own when it begins.
    pub(super) fn words(&self, look: &Look) -> String {
        let mut text = String::new();
        let mut notices: Vec<&str> = Vec::new();
        for step in &self.steps {
            let notice = match step {
                Step::Login(_) | Step::Custom(..) => "",
                Step::Key(..) | Step::Guest(_) => step.choice().map_or("", |choice| choice.notice.as_str()),
            };
            if !notice.is_empty() && !notices.contains(&notice) {
                notices.push(notice);
            }
        }
        for notice in notices {
            text += &format!("\n{} {notice}\n", look.paint(colour::WARN, "note:"));
        }
        text += &format!("\n{}\n", look.paint(colour::HEADING, "This will be done:"));
        for step in &self.steps {
            text += &format!("  - {}\n", step.words());
        }
        let steps = self.steps.iter().filter_map(Step::choice);
        let model = steps
            .filter(|choice| Some(&choice.id) == self.model.as_ref())
            .find_map(|choice| choice.model.as_deref());
        if let Some(model) = model {
            text += &format!("  - make {model} the default model\n");
        }
        text
    }
}
