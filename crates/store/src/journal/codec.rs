//! A record as JSON text and back. Every field is written by hand, so that no derive ever prints a secret.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use tokensink_types::record::{Backoff, Generation, Record, RecordState, Rotation, Sent};
use tokensink_types::{
    Account, ProcessId, ProfileId, ProviderId, Revision, Secret, SpendKey, TokenSet, UnixMillis,
};
use zeroize::Zeroizing;

use crate::json as js;

/// The version of this encoding. A record of another version is not guessed at.
const VERSION: u64 = 1;

/// The record as text, secrets included.
pub(super) fn encode(record: &Record) -> Zeroizing<Vec<u8>> {
    let mut value = json!({
        "v": VERSION,
        "provider": record.provider.as_str(),
        "profile": record.profile.as_str(),
        "store": record.store,
        "state": state_value(&record.state),
        "generation": record.generation.as_ref().map(generation_value),
        "ancestors": record.ancestors.iter().map(|key| hex::encode(key.0)).collect::<Vec<_>>(),
        "rotation": match record.rotation {
            Rotation::Unknown => "unknown",
            Rotation::Always => "always",
            Rotation::Never => "never",
        },
        "backoff": record.backoff.as_ref().map(|backoff| json!({
            "failures": backoff.failures,
            "not_before": backoff.not_before.0,
            "reason": backoff.reason,
        })),
        "rejected": record.rejected.map(|revision| hex::encode(revision.0)),
    });
    let mut bytes = Zeroizing::new(Vec::with_capacity(16 * 1024));
    // Writing to memory with text keys cannot fail; an empty payload would be refused by the decoder.
    let _ = serde_json::to_writer(&mut *bytes, &value);
    js::wipe(&mut value);
    bytes
}

/// The record in a text.
///
/// # Errors
/// A sentence without any of the text.
pub(super) fn decode(payload: &[u8]) -> Result<Record, String> {
    let map = js::parse_object(payload).map_err(|failure| failure.why)?;
    let map = js::SecretMap(map);
    let version = map.0.get("v").and_then(Value::as_u64);
    if version != Some(VERSION) {
        return Err(match version {
            Some(version) => format!("its format {version} was written by another version of tokensink"),
            None => "it names no format".to_owned(),
        });
    }
    let fields = Fields(&map.0);
    Ok(Record {
        provider: ProviderId::parse(fields.text("provider")?).map_err(|error| error.to_string())?,
        profile: ProfileId::parse(fields.text("profile")?).map_err(|error| error.to_string())?,
        store: fields.text("store")?.to_owned(),
        state: state(&fields.fields("state")?)?,
        generation: fields
            .optional("generation")
            .map(|fields| generation(&fields))
            .transpose()?,
        ancestors: fields
            .texts("ancestors")?
            .iter()
            .map(|text| spend_key(text))
            .collect::<Result<_, _>>()?,
        rotation: match fields.text("rotation")? {
            "always" => Rotation::Always,
            "never" => Rotation::Never,
            "unknown" => Rotation::Unknown,
            _ => return Err("its rotation is unknown".to_owned()),
        },
        backoff: fields
            .optional("backoff")
            .map(|fields| backoff(&fields))
            .transpose()?,
        rejected: fields
            .optional_text("rejected")
            .map(|text| bytes32(text).map(Revision))
            .transpose()?,
    })
}

fn state_value(state: &RecordState) -> Value {
    match state {
        RecordState::Idle => json!({"is": "idle"}),
        RecordState::Sent(sent) => json!({
            "is": "sent",
            "spend": hex::encode(sent.spend.0),
            "first_at": sent.first_at.0,
            "last_at": sent.last_at.0,
            "sends": sent.sends,
            "holder": {
                "host": sent.holder.host,
                "boot": sent.holder.boot,
                "pid": sent.holder.pid,
                "start": sent.holder.start,
            },
        }),
        RecordState::Answered { parent, at } => json!({
            "is": "answered", "parent": hex::encode(parent.0), "at": at.0,
        }),
        RecordState::Committed { at } => json!({"is": "committed", "at": at.0}),
        RecordState::Parked { spent, answer, at } => json!({
            "is": "parked", "spent": hex::encode(spent.0), "answer": generation_value(answer), "at": at.0,
        }),
        RecordState::Refused {
            spent,
            code,
            description,
            after_lost_answer,
            at,
        } => json!({
            "is": "refused",
            "spent": hex::encode(spent.0),
            "code": code,
            "description": description,
            "after_lost_answer": after_lost_answer,
            "at": at.0,
        }),
    }
}

fn state(fields: &Fields<'_>) -> Result<RecordState, String> {
    Ok(match fields.text("is")? {
        "idle" => RecordState::Idle,
        "sent" => {
            let holder = fields.fields("holder")?;
            RecordState::Sent(Sent {
                spend: spend_key(fields.text("spend")?)?,
                first_at: fields.at("first_at")?,
                last_at: fields.at("last_at")?,
                sends: fields.count("sends")?,
                holder: ProcessId {
                    host: holder.text("host")?.to_owned(),
                    boot: holder.text("boot")?.to_owned(),
                    pid: holder.count("pid")?,
                    start: holder.number("start")?,
                },
            })
        }
        "answered" => RecordState::Answered {
            parent: spend_key(fields.text("parent")?)?,
            at: fields.at("at")?,
        },
        "committed" => RecordState::Committed { at: fields.at("at")? },
        "parked" => RecordState::Parked {
            spent: spend_key(fields.text("spent")?)?,
            answer: Box::new(generation(&fields.fields("answer")?)?),
            at: fields.at("at")?,
        },
        "refused" => RecordState::Refused {
            spent: spend_key(fields.text("spent")?)?,
            code: fields.text("code")?.to_owned(),
            description: fields.text("description")?.to_owned(),
            after_lost_answer: fields.flag("after_lost_answer")?,
            at: fields.at("at")?,
        },
        _ => return Err("its state is unknown".to_owned()),
    })
}

fn generation_value(generation: &Generation) -> Value {
    let tokens = &generation.tokens;
    let expose = |secret: &Option<Secret>| secret.as_ref().map(|secret| secret.expose().to_owned());
    json!({
        "access": tokens.access.expose(),
        "refresh": expose(&tokens.refresh),
        "expires": tokens.expires.map(|at| at.0),
        "id_token": expose(&tokens.id_token),
        "account_id": generation.account.account_id,
        "email": generation.account.email,
        "subject": generation.account.subject,
        "plan": generation.account.plan,
        "issued_at": generation.issued_at.map(|at| at.0),
        "fields": generation.fields,
    })
}

fn generation(fields: &Fields<'_>) -> Result<Generation, String> {
    let owned = |name: &str| fields.optional_text(name).map(str::to_owned);
    let provider_fields: BTreeMap<String, String> = fields
        .fields("fields")?
        .0
        .iter()
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .collect();
    Ok(Generation {
        tokens: TokenSet {
            access: Secret::new(fields.text("access")?),
            refresh: fields.optional_text("refresh").map(Secret::new),
            expires: fields.optional_at("expires"),
            id_token: fields.optional_text("id_token").map(Secret::new),
        },
        account: Account {
            account_id: owned("account_id"),
            email: owned("email"),
            subject: owned("subject"),
            plan: owned("plan"),
        },
        issued_at: fields.optional_at("issued_at"),
        fields: provider_fields,
    })
}

fn backoff(fields: &Fields<'_>) -> Result<Backoff, String> {
    Ok(Backoff {
        failures: fields.count("failures")?,
        not_before: fields.at("not_before")?,
        reason: fields.text("reason")?.to_owned(),
    })
}

fn spend_key(text: &str) -> Result<SpendKey, String> {
    bytes32(text).map(SpendKey)
}

fn bytes32(text: &str) -> Result<[u8; 32], String> {
    let mut bytes = [0; 32];
    hex::decode_to_slice(text, &mut bytes).map_err(|_| "a fingerprint in it is damaged".to_owned())?;
    Ok(bytes)
}

/// Checked access to an object's fields.
struct Fields<'a>(&'a Map<String, Value>);

impl<'a> Fields<'a> {
    fn missing(name: &str) -> String {
        format!("its field {name} is missing or of the wrong kind")
    }

    fn text(&self, name: &str) -> Result<&'a str, String> {
        self.optional_text(name).ok_or_else(|| Self::missing(name))
    }

    fn optional_text(&self, name: &str) -> Option<&'a str> {
        self.0.get(name)?.as_str()
    }

    fn texts(&self, name: &str) -> Result<Vec<&'a str>, String> {
        let items = self.0.get(name).and_then(Value::as_array);
        items
            .map(|items| items.iter().filter_map(Value::as_str).collect())
            .ok_or_else(|| Self::missing(name))
    }

    fn number(&self, name: &str) -> Result<u64, String> {
        self.0
            .get(name)
            .and_then(Value::as_u64)
            .ok_or_else(|| Self::missing(name))
    }

    fn count(&self, name: &str) -> Result<u32, String> {
        u32::try_from(self.number(name)?).map_err(|_| Self::missing(name))
    }

    fn flag(&self, name: &str) -> Result<bool, String> {
        self.0
            .get(name)
            .and_then(Value::as_bool)
            .ok_or_else(|| Self::missing(name))
    }

    fn at(&self, name: &str) -> Result<UnixMillis, String> {
        self.optional_at(name).ok_or_else(|| Self::missing(name))
    }

    fn optional_at(&self, name: &str) -> Option<UnixMillis> {
        self.0.get(name)?.as_i64().map(UnixMillis)
    }

    fn fields(&self, name: &str) -> Result<Fields<'a>, String> {
        self.optional(name).ok_or_else(|| Self::missing(name))
    }

    fn optional(&self, name: &str) -> Option<Fields<'a>> {
        self.0.get(name)?.as_object().map(Fields)
    }
}
