//! Whose login it is: from the token answer, or from the userinfo endpoint where the provider has the identity there.

use serde_json::Value;
use tokensink_host::Host;
use tokensink_oauth::identity as oauth_identity;
use tokensink_oauth::token::TokenGrant;
use tokensink_providers::{MissingIdentity, OAuthClient};
use tokensink_types::Account;

use crate::error::{ErrorKind, SinkError};
use crate::login::exchange::{endpoint_of, send};

/// The verified identity, and what the user should know about how it was found.
///
/// # Errors
/// When the provider needs a part of the identity (spec.md 11.2.8) that is not there.
pub(crate) fn verify(
    host: &Host,
    client: &OAuthClient,
    grant: &TokenGrant,
    again: &str,
) -> Result<(Account, Option<String>), SinkError> {
    let (userinfo, note) = match userinfo(host, client, grant) {
        Ok(userinfo) => (userinfo, None),
        Err(reason) => (
            None,
            Some(format!("the identity could not be asked for: {reason}")),
        ),
    };
    match client.login_account(grant, userinfo.as_ref()) {
        Ok(account) => Ok((account, note)),
        Err(missing) => Err(incomplete(&missing, note.as_deref(), again)),
    }
}

fn userinfo(host: &Host, client: &OAuthClient, grant: &TokenGrant) -> Result<Option<Value>, String> {
    let Some(endpoint) = client
        .userinfo_endpoint
        .as_ref()
        .filter(|_| client.needs_userinfo())
    else {
        return Ok(None);
    };
    let request =
        oauth_identity::userinfo_request(endpoint, &grant.access_token).map_err(|error| error.to_string())?;
    let answer =
        send(host, &request).map_err(|error| format!("{}: {}", endpoint_of(&request), error.reason()))?;
    oauth_identity::parse_userinfo(&answer.response, &grant.access_token)
        .map(Some)
        .map_err(|refusal| format!("{}: {refusal}", endpoint_of(&request)))
}

/// The words that users and other tools know (`Failed to extract accountId from token`), then the details.
fn incomplete(missing: &MissingIdentity, note: Option<&str>, again: &str) -> SinkError {
    let field = match missing.what {
        "account id" => "accountId",
        "e-mail address" => "email",
        what => what,
    };
    let note = note.map_or_else(String::new, |note| format!("; {note}"));
    let message = format!(
        "Failed to extract {field} from token: looked at {} in {}{note}. Nothing was stored, because such a login is \
         of no use",
        missing.pointers, missing.sources
    );
    SinkError::new(ErrorKind::Failed, "identity_missing", message).with_fix(again.to_owned())
}

/// What an account is called in messages and on the page: its e-mail address, else its id.
pub(crate) fn label(account: &Account) -> Option<String> {
    account.email.clone().or_else(|| account.account_id.clone())
}
