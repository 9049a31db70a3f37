//! One profile as selection sees it: facts without secrets, and its use so far.

use serde::{Deserialize, Serialize};
use tokensink_types::{
    AgentId, BillingClass, Credential, Expiry, ProfileId, ProviderId, SecretSource, SecretText, UnixMillis,
};

use crate::ProviderAliases;
use crate::bench::{Bench, Benches, Bucket, is_exempt};
use crate::classify::Reason;

/// A profile in an agent's view.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// Its id.
    pub id: ProfileId,
    /// The agent in whose store it lives.
    pub owner: AgentId,
    /// True when the asking agent only reads it through.
    pub inherited: bool,
    /// What is known of the credential.
    pub facts: CredentialFacts,
    /// What a request on it costs.
    pub billing: BillingClass,
    /// `usageStats` of the profile: what every program sees and may write. Windows there that are our own count once.
    pub usage: Usage,
    /// Our own benches of the profile, in its present epoch.
    #[serde(default)]
    pub benches: Benches,
    /// Whether its reference was looked up.
    pub references: References,
    /// For an OAuth profile: the store fields that hold a reference-shaped value (`access`, `keyRef`, ...), which
    /// is an error (spec.md 4.3). Empty for the other kinds; their reference is in `facts`.
    pub ref_fields: Vec<String>,
}

impl Candidate {
    /// A candidate that was never used, owned by `owner`, with its references not looked up.
    #[must_use]
    pub fn new(id: ProfileId, owner: AgentId, credential: &Credential, billing: BillingClass) -> Self {
        Self {
            id,
            owner,
            inherited: false,
            facts: CredentialFacts::of(credential),
            billing,
            usage: Usage::default(),
            benches: Benches::default(),
            references: References::Unchecked,
            ref_fields: Vec::new(),
        }
    }

    /// The window that stands in the way of a call now: the one that ends last where several do. With a `model`, a
    /// window of another model does not count (spec.md 5.3.7); without one every window does, as in `models auth
    /// order`. One that may be tested is among them.
    #[must_use]
    pub fn bench(&self, aliases: &ProviderAliases, model: Option<&str>, now: UnixMillis) -> Option<Window> {
        self.standing(aliases, model, now).window
    }

    /// What stands in the way of a call now, and whether the call may be made nevertheless, as a test.
    pub(crate) fn standing(
        &self,
        aliases: &ProviderAliases,
        model: Option<&str>,
        now: UnixMillis,
    ) -> Standing {
        if is_exempt(aliases.canonical(&self.facts.provider)) {
            return Standing::default();
        }
        let ours = || self.benches.all.iter().filter(|bench| bench.holds(model, now));
        // Our benches are shown in `usageStats` too, so that other programs see them.
        let is_ours = |window: &Window| self.benches.all.iter().any(|bench| bench.until == window.until);
        let theirs = self
            .usage
            .windows(now)
            .filter(|window| window.bucket.concerns(model));
        let mut windows: Vec<Window> = theirs.filter(|window| !is_ours(window)).collect();
        let tests = windows.is_empty() && self.benches.may_test(model, now);
        windows.extend(ours().map(Window::of));
        Standing {
            free_at: windows.iter().map(|window| window.gives_way(now)).max(),
            window: windows.into_iter().max_by_key(|window| window.until),
            tests,
        }
    }

    /// Every instant at which something about it changes by itself: its windows, their tests, and what it holds.
    pub(crate) fn ends(&self) -> impl Iterator<Item = UnixMillis> {
        let credential = match self.facts.form {
            CredentialForm::ApiKey(_) => None,
            CredentialForm::Token { expires, .. } => match expires {
                Expiry::At(at) => Some(at),
                Expiry::Never | Expiry::Invalid => None,
            },
            CredentialForm::OAuth { expires, .. } => expires,
        };
        let theirs = [credential, self.usage.cooldown_until, self.usage.disabled_until];
        let ours = self.benches.all.iter().flat_map(Bench::changes);
        theirs.into_iter().flatten().chain(ours)
    }
}

/// What stands between a call and a profile, over all that is known of its windows.
#[derive(Debug, Clone, Default)]
pub(crate) struct Standing {
    /// The window that ends last.
    pub(crate) window: Option<Window>,
    /// One request may test it now, and nobody does.
    pub(crate) tests: bool,
    /// When all windows give way, by their ends or to a test.
    pub(crate) free_at: Option<UnixMillis>,
}

/// A credential without its secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CredentialFacts {
    /// The provider it belongs to.
    pub provider: ProviderId,
    /// What is there, by kind.
    pub form: CredentialForm,
}

/// What is there of a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CredentialForm {
    /// `type: "api_key"`.
    ApiKey(Material),
    /// `type: "token"`.
    Token {
        /// Where the token comes from.
        token: Material,
        /// When it ends.
        expires: Expiry,
    },
    /// `type: "oauth"`.
    #[serde(rename = "oauth")]
    OAuth {
        /// There is an access token.
        access: bool,
        /// There is a refresh token.
        refresh: bool,
        /// When the access token ends, if known.
        expires: Option<UnixMillis>,
    },
}

/// Where a static secret comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Material {
    /// A value in the store.
    pub inline: Inline,
    /// `keyRef` or `tokenRef`.
    pub reference: bool,
}

/// A value in the store, by what it looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Inline {
    /// None, or nothing but white space.
    Absent,
    /// A value.
    Value,
    /// An `onboard ... --auth-choice ...` command line that was pasted in place of a key (spec.md 4.3).
    CommandLine,
}

/// What is known of a profile's reference (`keyRef`, `tokenRef`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum References {
    /// Nobody looked; counts as usable, since looking may run a program (spec.md 16.3).
    #[default]
    Unchecked,
    /// It gave a value.
    Resolved,
    /// It cannot be resolved.
    Failed,
}

impl CredentialFacts {
    /// What selection may know of `credential`.
    #[must_use]
    pub fn of(credential: &Credential) -> Self {
        let form = match credential {
            Credential::ApiKey(c) => CredentialForm::ApiKey(Material::of(&c.key)),
            Credential::Token(c) => CredentialForm::Token {
                token: Material::of(&c.token),
                expires: c.expires,
            },
            Credential::OAuth(c) => CredentialForm::OAuth {
                access: !c.tokens.access.is_blank(),
                refresh: c.tokens.refresh_token().is_some(),
                expires: c.tokens.expires,
            },
        };
        Self {
            provider: credential.provider().clone(),
            form,
        }
    }
}

impl Material {
    fn of(source: &SecretSource) -> Self {
        let inline = match &source.inline {
            None => Inline::Absent,
            Some(SecretText::Plain(secret)) if secret.is_blank() => Inline::Absent,
            Some(SecretText::Plain(secret)) if looks_like_onboarding(secret.expose()) => Inline::CommandLine,
            Some(SecretText::Plain(_) | SecretText::EnvTemplate { .. }) => Inline::Value,
        };
        Self {
            inline,
            reference: source.reference.is_some(),
        }
    }
}

fn looks_like_onboarding(text: &str) -> bool {
    let mut words = text.split_whitespace();
    words.by_ref().any(|word| word == "onboard") && words.any(|word| word.starts_with("--auth-choice"))
}

/// The fields of `usageStats` that selection reads (spec.md 5.1). An end that is not above zero counts as absent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// `lastUsed`.
    pub last_used: Option<UnixMillis>,
    /// `cooldownUntil`.
    pub cooldown_until: Option<UnixMillis>,
    /// `cooldownReason`.
    pub cooldown_reason: Option<String>,
    /// `cooldownModel`: set when the window is one model's.
    pub cooldown_model: Option<String>,
    /// `disabledUntil`.
    pub disabled_until: Option<UnixMillis>,
    /// `disabledReason`.
    pub disabled_reason: Option<String>,
}

impl Usage {
    /// The windows that are open at `now`; one that ends at `now` has ended. Windows in the past count for nothing,
    /// so that a pure reader needs no clearing first (spec.md 5.5).
    pub fn windows(&self, now: UnixMillis) -> impl Iterator<Item = Window> {
        let cooldown = open(self.cooldown_until, now).map(|until| Window {
            kind: WindowKind::Cooldown,
            until,
            reason: known(self.cooldown_reason.as_deref()),
            bucket: Bucket::of_model(self.cooldown_model.clone().filter(|model| !model.is_empty())),
            ours: None,
        });
        let disabled = open(self.disabled_until, now).map(|until| Window {
            kind: WindowKind::Disabled,
            until,
            reason: known(self.disabled_reason.as_deref()),
            bucket: Bucket::Account,
            ours: None,
        });
        cooldown.into_iter().chain(disabled)
    }
}

fn open(end: Option<UnixMillis>, now: UnixMillis) -> Option<UnixMillis> {
    end.filter(|end| end.0 > 0 && now < *end)
}

fn known(reason: Option<&str>) -> String {
    reason
        .filter(|text| !text.is_empty())
        .unwrap_or("unknown")
        .to_owned()
}

/// A period in which a profile is not tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Which of the two lanes it is in.
    pub kind: WindowKind,
    /// When it ends.
    pub until: UnixMillis,
    /// The failure that opened it, `unknown` where the store does not say.
    pub reason: String,
    /// What it keeps from being tried.
    pub bucket: Bucket,
    /// What more is known of it if it is a bench of our own; `None` if another program wrote it.
    pub ours: Option<Ours>,
}

/// The numbers behind a window of our own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ours {
    /// When the failure happened that opened it.
    pub since: UnixMillis,
    /// Its end is the server's word.
    pub stated: bool,
    /// Failures in a row that each opened a window.
    pub failures: u32,
    /// From when on one request may test it; while somebody does, when that test counts as given up.
    pub testable: UnixMillis,
}

impl Window {
    fn of(bench: &Bench) -> Self {
        Self {
            kind: match bench.reason {
                Reason::Billing | Reason::AuthPermanent => WindowKind::Disabled,
                _ => WindowKind::Cooldown,
            },
            until: bench.until,
            reason: bench.reason.as_str().to_owned(),
            bucket: bench.bucket.clone(),
            ours: Some(Ours {
                since: bench.since,
                stated: bench.stated,
                failures: bench.failures,
                testable: bench.testable(),
            }),
        }
    }

    /// When a request may be made again, by its end or as a test; `now` where that is so already.
    #[must_use]
    pub fn gives_way(&self, now: UnixMillis) -> UnixMillis {
        let testable = self.ours.map_or(self.until, |ours| ours.testable.max(now));
        self.until.min(testable)
    }
}

/// The two lanes of spec.md 5.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WindowKind {
    /// Short.
    Cooldown,
    /// Long: billing or a permanent refusal.
    Disabled,
}

impl WindowKind {
    /// The word in `models status --json`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cooldown => "cooldown",
            Self::Disabled => "disabled",
        }
    }
}

#[cfg(test)]
mod tests {
    use tokensink_types::{ApiKey, Labels, SecretRef};

    use super::*;
    use crate::worlds::{self, api_key, provider};

    fn material(inline: Option<SecretText>, reference: bool) -> Material {
        let reference = reference.then(|| SecretRef {
            source: "env".to_owned(),
            provider: None,
            id: "KEY".to_owned(),
        });
        let key = SecretSource { inline, reference };
        let credential = Credential::ApiKey(ApiKey {
            provider: provider("rig"),
            key,
            metadata: std::collections::BTreeMap::new(),
            labels: Labels::default(),
        });
        match CredentialFacts::of(&credential).form {
            CredentialForm::ApiKey(material) => material,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn material_is_told_by_what_is_there() {
        let plain = |text: &str| Some(SecretText::Plain(text.into()));
        let template = Some(SecretText::EnvTemplate {
            literal: "${KEY}".into(),
            name: "KEY".to_owned(),
        });
        let cases = [
            (None, Inline::Absent),
            (plain("  "), Inline::Absent),
            (plain("sk-1"), Inline::Value),
            (template, Inline::Value),
            (
                plain("openclaw onboard --auth-choice openai-api-key"),
                Inline::CommandLine,
            ),
            (
                plain("tokensink onboard --auth-choice=x --openai-api-key sk"),
                Inline::CommandLine,
            ),
            (plain("--auth-choice onboard"), Inline::Value),
        ];
        for (inline, want) in cases {
            for reference in [false, true] {
                let got = material(inline.clone(), reference);
                assert_eq!(
                    got,
                    Material {
                        inline: want,
                        reference
                    },
                    "{inline:?}"
                );
            }
        }
    }

    #[test]
    fn benches() {
        let at = |ms| Some(UnixMillis(ms));
        // (provider, cooldown end, its model, disable end, asked model) at 100 -> end and lane
        let cases = [
            ("rig", None, None, None, None, None),
            ("rig", at(100), None, None, None, None),
            (
                "rig",
                at(101),
                None,
                None,
                None,
                Some((101, WindowKind::Cooldown)),
            ),
            (
                "rig",
                at(150),
                Some("a"),
                None,
                Some("a"),
                Some((150, WindowKind::Cooldown)),
            ),
            ("rig", at(150), Some("a"), None, Some("b"), None),
            (
                "rig",
                at(150),
                Some("a"),
                None,
                None,
                Some((150, WindowKind::Cooldown)),
            ),
            (
                "rig",
                at(150),
                Some("a"),
                at(120),
                Some("b"),
                Some((120, WindowKind::Disabled)),
            ),
            (
                "rig",
                at(150),
                None,
                at(120),
                None,
                Some((150, WindowKind::Cooldown)),
            ),
            (
                "rig",
                at(150),
                None,
                at(150),
                None,
                Some((150, WindowKind::Disabled)),
            ),
            ("openrouter", at(150), None, at(150), None, None),
            ("kilocode", at(150), None, at(150), None, None),
            ("router", at(150), None, at(150), None, None),
        ];
        let aliases = ProviderAliases::new([(provider("router"), provider("openrouter"))]);
        for (name, cooldown, model, disabled, asked, want) in cases {
            let mut candidate = worlds::candidate("x:1", name, api_key());
            candidate.usage = Usage {
                cooldown_until: cooldown,
                cooldown_model: model.map(str::to_owned),
                disabled_until: disabled,
                ..Usage::default()
            };
            let got = candidate.bench(&aliases, asked, UnixMillis(100));
            assert_eq!(
                got.map(|window| (window.until.0, window.kind)),
                want,
                "{name} {cooldown:?} {model:?} {disabled:?} {asked:?}"
            );
        }
    }

    #[test]
    fn ends_that_are_not_above_zero_are_no_windows() {
        for end in [0, -1, i64::MIN] {
            let usage = Usage {
                cooldown_until: Some(UnixMillis(end)),
                disabled_until: Some(UnixMillis(end)),
                ..Usage::default()
            };
            assert_eq!(usage.windows(UnixMillis(i64::MIN)).count(), 0, "{end}");
        }
    }
}
