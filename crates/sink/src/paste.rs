//! Credentials that were made elsewhere: setup-tokens, bearer tokens and API keys (spec.md 11.7 to 11.9).
//!
//! What is pasted is cleaned of what terminals and copying add, and checked before it is stored, because a cut-off
//! token is found out only when it is too late.

use std::collections::BTreeMap;

use tokensink_providers::{Definition, Flow, Method, TokenCheck, TokenProblem};
use tokensink_store::clean_secret;
use tokensink_types::{
    Account, ApiKey, Credential, Expiry, Labels, ProviderId, Secret, SecretSource, StaticToken,
};

use crate::error::{ErrorKind, Result, SinkError};
use crate::login::keep::Newcomer;
use crate::login::run::end_of;
use crate::login::{LoginOutcome, PasteRequest, SETUP_TOKEN};
use crate::secrets::value::REDACTED;
use crate::sink::Sink;

/// The name of a pasted profile where no id is given (spec.md 3.2).
const NAME: &str = "manual";

/// Who gets a pasted credential: a defined provider, or one that only the config or the store knows.
struct Recipient<'a> {
    id: ProviderId,
    definition: Option<&'a Definition>,
}

impl Recipient<'_> {
    fn methods(&self) -> &[Method] {
        self.definition
            .map_or(&[], |definition| definition.methods.as_slice())
    }
}

impl Sink {
    /// Stores a bearer token: one that `claude setup-token` made with `setup_token`, any other without. It is never
    /// refreshed.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] when the text cannot be such a token or the provider takes none, [`ErrorKind::Failed`]
    /// when it could not be stored.
    #[expect(clippy::needless_pass_by_value, reason = "the caller gives the secret away")]
    pub fn store_token(&self, request: &PasteRequest, text: Secret) -> Result<LoginOutcome> {
        let recipient = self.prepare_paste(request)?;
        let (method, token) = accept_token(&recipient, request.setup_token, &text)?;
        let expires = match request.expires_in {
            None => Expiry::Never,
            Some(time) if time.is_zero() => {
                let message = "--expires-in is zero, so the token would have ended already";
                return Err(
                    SinkError::new(ErrorKind::Usage, "bad_duration", message).with_fix("--expires-in 365d")
                );
            }
            Some(time) => Expiry::At(self.now().plus(time)),
        };
        let credential = Credential::Token(StaticToken {
            provider: recipient.id.clone(),
            token: SecretSource::inline(token),
            expires,
            labels: Labels::default(),
        });
        self.keep_pasted(request, &recipient, method, credential)
    }

    /// Stores an API key.
    ///
    /// # Errors
    /// As for [`Sink::store_token`].
    #[expect(clippy::needless_pass_by_value, reason = "the caller gives the secret away")]
    pub fn store_api_key(&self, request: &PasteRequest, text: Secret) -> Result<LoginOutcome> {
        let recipient = self.prepare_paste(request)?;
        let (method, key) = accept_key(&recipient, &text)?;
        let credential = Credential::ApiKey(ApiKey {
            provider: recipient.id.clone(),
            key: SecretSource::inline(key),
            metadata: BTreeMap::new(),
            labels: Labels::default(),
        });
        self.keep_pasted(request, &recipient, method, credential)
    }

    /// Checks a pasted token without storing it, for prompts that ask again.
    ///
    /// # Errors
    /// As for [`Sink::store_token`].
    pub fn check_secret(&self, provider: &str, setup_token: bool, text: &Secret) -> Result<()> {
        let recipient = self.recipient(provider)?;
        accept_token(&recipient, setup_token, text).map(drop)
    }

    fn prepare_paste(&self, request: &PasteRequest) -> Result<Recipient<'_>> {
        self.require_writable("storing a credential")?;
        let recipient = self.recipient(&request.provider)?;
        if let Some(id) = &request.profile_id {
            self.check_wanted_id(&request.agent, &recipient.id, id)?;
        }
        Ok(recipient)
    }

    /// A credential of a provider without definition is kept too, if the user's config or store knows the provider;
    /// anything else is more likely a slip.
    fn recipient(&self, text: &str) -> Result<Recipient<'_>> {
        let unknown = match self.registry().resolve(text) {
            Ok(definition) => {
                return Ok(Recipient {
                    id: definition.id.clone(),
                    definition: Some(definition),
                });
            }
            Err(unknown) => unknown,
        };
        let id = ProviderId::parse(text).ok().filter(|id| self.is_configured(id));
        id.map(|id| Recipient { id, definition: None }).ok_or_else(|| {
            SinkError::new(ErrorKind::Usage, "unknown_provider", unknown.to_string())
                .with_fix("tokensink providers list")
        })
    }

    fn is_configured(&self, id: &ProviderId) -> bool {
        self.config()
            .is_ok_and(|config| config.providers().iter().any(|provider| provider.id == *id))
    }

    fn keep_pasted(
        &self,
        request: &PasteRequest,
        recipient: &Recipient<'_>,
        method: Option<&Method>,
        credential: Credential,
    ) -> Result<LoginOutcome> {
        let (mode, expires) = (credential.kind(), end_of(&credential));
        let kept = self.keep(&Newcomer {
            agent: request.agent.clone(),
            provider: recipient.id.clone(),
            credential,
            account: Account::default(),
            issued_at: None,
            name: NAME.to_owned(),
            wanted: request.profile_id.clone(),
            reserved: Vec::new(),
            replaces: true,
            default_model: None,
        })?;
        Ok(LoginOutcome {
            profile: kept.profile,
            provider: recipient.id.clone(),
            mode,
            account: Account::default(),
            updated: kept.updated,
            store_path: self.paths().profiles_file(&request.agent),
            expires,
            default_model: None,
            notes: kept.notes,
            notice: method
                .map(|method| method.notice.clone())
                .filter(|notice| !notice.is_empty()),
        })
    }
}

fn check_of(method: &Method) -> Option<&TokenCheck> {
    match &method.flow {
        Flow::Token(check) => Some(check),
        _ => None,
    }
}

/// What `method` takes of a pasted text, as it is stored.
///
/// # Errors
/// A usage error when the text cannot be such a credential.
pub(crate) fn accept(definition: &Definition, method: &Method, text: &Secret) -> Result<Secret> {
    let recipient = Recipient {
        id: definition.id.clone(),
        definition: Some(definition),
    };
    let taken = match &method.flow {
        Flow::ApiKey(_) => accept_key(&recipient, text),
        Flow::Token(_) => accept_token(&recipient, method.id.as_str() == SETUP_TOKEN, text),
        // A login whose outcome is a plain token; nothing is known of how that looks.
        Flow::Pkce(_) | Flow::Device(_) | Flow::External(_) | Flow::Program(_) => {
            let plain = TokenCheck::default().accept(&Secret::new(clean_secret(text.expose())));
            return plain.map_err(|problem| refused(&recipient, &problem));
        }
    };
    taken.map(|(_, secret)| secret)
}

/// The method that a pasted token belongs to, and the token as it is stored. Providers without a method for tokens
/// take any text.
fn accept_token<'a>(
    recipient: &'a Recipient<'_>,
    setup_token: bool,
    text: &Secret,
) -> Result<(Option<&'a Method>, Secret)> {
    let mut tokens = recipient
        .methods()
        .iter()
        .filter(|method| check_of(method).is_some());
    let is_setup = |method: &&Method| method.id.as_str() == SETUP_TOKEN;
    let method = if setup_token {
        Some(tokens.find(is_setup).ok_or_else(|| no_setup_token(recipient))?)
    } else {
        tokens
            .clone()
            .find(|method| !is_setup(method))
            .or_else(|| tokens.next())
    };
    let plain = TokenCheck::default();
    let check = method.and_then(check_of).unwrap_or(&plain);
    let text = Secret::new(clean_secret(text.expose()));
    not_a_placeholder(&text)?;
    let token = check
        .accept(&text)
        .map_err(|problem| refused(recipient, &problem))?;
    Ok((method, token))
}

/// What programs show in the place of a secret is none (spec.md 16.6).
fn not_a_placeholder(text: &Secret) -> Result<()> {
    if text.expose() != REDACTED {
        return Ok(());
    }
    let message = format!("{REDACTED} is what is shown in the place of a secret, not the secret");
    Err(SinkError::new(ErrorKind::Usage, "redacted", message)
        .with_fix("copy the secret from where it was issued, not from a config that was printed"))
}

fn accept_key<'a>(recipient: &'a Recipient<'_>, text: &Secret) -> Result<(Option<&'a Method>, Secret)> {
    let is_key = |method: &&Method| matches!(method.flow, Flow::ApiKey(_));
    let method = recipient.methods().iter().find(is_key);
    let plain = TokenCheck::default();
    let check = match method.map(|method| &method.flow) {
        Some(Flow::ApiKey(check)) => check,
        _ => &plain,
    };
    let text = Secret::new(clean_secret(value_of_assignment(text.expose())));
    not_a_placeholder(&text)?;
    let key = check
        .accept(&text)
        .map_err(|problem| refused(recipient, &problem))?;
    let prefixes = recipient
        .methods()
        .iter()
        .filter_map(check_of)
        .filter_map(|check| check.prefix.as_deref());
    if let Some(prefix) = prefixes
        .into_iter()
        .find(|prefix| key.expose().starts_with(prefix))
    {
        let message =
            format!("a text that begins with {prefix} is a token of a subscription, not an API key");
        return Err(
            SinkError::new(ErrorKind::Usage, "not_a_key", message).with_fix(format!(
                "tokensink models auth paste-token --provider {}",
                recipient.id
            )),
        );
    }
    Ok((method, key))
}

fn no_setup_token(recipient: &Recipient<'_>) -> SinkError {
    let message = format!("{} has no setup-tokens", recipient.id);
    SinkError::new(ErrorKind::Usage, "no_setup_token", message).with_fix(format!(
        "tokensink models auth paste-token --provider {}",
        recipient.id
    ))
}

fn refused(recipient: &Recipient<'_>, problem: &TokenProblem) -> SinkError {
    let id = &recipient.id;
    let has_keys = recipient
        .methods()
        .iter()
        .any(|method| matches!(method.flow, Flow::ApiKey(_)));
    let fix = match problem {
        TokenProblem::CodeAndState => Some(format!("tokensink models auth login --provider {id}")),
        TokenProblem::Prefix { .. } if has_keys => Some(format!(
            "for an API key: tokensink models auth paste-api-key --provider {id}"
        )),
        _ => None,
    };
    SinkError::new(ErrorKind::Usage, "bad_token", problem.to_string()).with_fix_if(fix)
}

/// What a shell would assign in `export NAME="value";` or `NAME=value` (spec.md 11.9), else the text itself. Without
/// `export` the name must be written as variables are, and the value must not begin with `=`: a key may hold `=`
/// itself, at its end mostly.
fn value_of_assignment(text: &str) -> &str {
    let text = text.trim();
    let (exported, rest) = match text.strip_prefix("export") {
        Some(rest) if rest.starts_with(char::is_whitespace) => (true, rest.trim_start()),
        _ => (false, text),
    };
    let Some((name, value)) = rest.split_once('=') else {
        return unquoted(text);
    };
    let is_name = |c: char| {
        c == '_'
            || c.is_ascii_digit()
            || if exported {
                c.is_ascii_alphabetic()
            } else {
                c.is_ascii_uppercase()
            }
    };
    let name = name.trim_end();
    let named =
        !name.is_empty() && name.chars().all(is_name) && !name.starts_with(|c: char| c.is_ascii_digit());
    let value = value.trim();
    if !named || value.is_empty() || value.starts_with('=') {
        return unquoted(text);
    }
    unquoted(value.strip_suffix(';').unwrap_or(value))
}

/// Takes one pair of quotes of the three kinds off.
fn unquoted(text: &str) -> &str {
    let text = text.trim();
    let pair = ['"', '\'', '`']
        .into_iter()
        .find_map(|quote| text.strip_prefix(quote)?.strip_suffix(quote));
    pair.unwrap_or(text)
}

#[cfg(test)]
mod tests;
