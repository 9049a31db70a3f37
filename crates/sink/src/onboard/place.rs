//! Under which id a settled credential is stored, and whether it is there already.

use tokensink_store::OrderPlacement;
use tokensink_types::{Credential, Expiry, ProfileId, SecretSource};

use crate::error::{ErrorKind, Result, SinkError};
use crate::onboard::Asked;
use crate::sink::Sink;

/// The name of a wizard's credential (spec.md 3.2).
pub(super) const DEFAULT: &str = "default";

/// The name where the first is taken by a credential of another kind; that of pasted ones.
const NEXT: &str = "manual";

/// Where a credential goes.
pub(super) struct Place {
    pub(super) id: ProfileId,
    /// It is there with the same secret.
    pub(super) is_settled: bool,
}

/// The secret of a key or token.
pub(super) fn source_of(credential: &Credential) -> Option<&SecretSource> {
    match credential {
        Credential::ApiKey(key) => Some(&key.key),
        Credential::Token(token) => Some(&token.token),
        Credential::OAuth(_) => None,
    }
}

impl Sink {
    /// The id of the request; else that of a profile with the same secret; else the choice's, unless a credential of
    /// another kind has it.
    pub(super) fn place(&self, asked: &Asked<'_>, source: &SecretSource) -> Result<Place> {
        let store = self.store().load(&asked.request.agent)?;
        let is_same = |credential: &Credential| {
            credential.kind() == asked.kind
                && source_of(credential) == Some(source)
                && !(asked.request.expires_in.is_some() && never_ends(credential))
        };
        if let Some(id) = &asked.request.profile_id {
            let is_settled = store.profiles.get(id).is_some_and(is_same);
            return Ok(Place {
                id: id.clone(),
                is_settled,
            });
        }
        let same = store.profiles.entries().iter().find(|entry| {
            self.registry().canonical(entry.credential.provider()) == asked.definition.id
                && is_same(&entry.credential)
        });
        if let Some(entry) = same {
            return Ok(Place {
                id: entry.id.clone(),
                is_settled: true,
            });
        }
        let ids = [asked.name(), NEXT].map(|name| ProfileId::of(&asked.definition.id, name));
        let fits = |id: &&ProfileId| {
            store
                .profiles
                .get(id)
                .is_none_or(|there| there.kind() == asked.kind)
        };
        let free = ids.iter().find(fits).ok_or_else(|| taken(&ids))?;
        Ok(Place {
            id: free.clone(),
            is_settled: false,
        })
    }

    /// Enters a settled profile into `openclaw.json` where it does not stand there yet (spec.md 2.9). Returns what
    /// the user should know.
    pub(super) fn enter_in_config(&self, id: &ProfileId, asked: &Asked<'_>) -> Result<Vec<String>> {
        let mode = asked.kind.as_str();
        let provider = &asked.definition.id;
        let known = self.config()?.auth_profiles();
        let stands = known
            .iter()
            .any(|entry| entry.id == *id && entry.provider == *provider && entry.mode == mode);
        if stands {
            return Ok(Vec::new());
        }
        let entered =
            self.edit_config(|editor| editor.apply_profile(id, provider, mode, None, OrderPlacement::Front));
        Ok(match entered {
            Ok(()) => Vec::new(),
            Err(error) => vec![format!(
                "openclaw.json does not mention {id}, which is used all the same: {error}"
            )],
        })
    }
}

fn never_ends(credential: &Credential) -> bool {
    matches!(credential, Credential::Token(token) if token.expires == Expiry::Never)
}

fn taken(ids: &[ProfileId; 2]) -> SinkError {
    let message = format!(
        "{} and {} hold credentials of another kind, which are not replaced",
        ids[0], ids[1]
    );
    SinkError::new(ErrorKind::Usage, "ids_taken", message)
        .with_fix(format!(
            "--token-profile-id {}:<another name>",
            ids[0].provider_part().unwrap_or_default()
        ))
        .about(&ids[0])
}
