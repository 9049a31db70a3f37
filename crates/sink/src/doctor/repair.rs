//! Acting: each repair looks again under the right lock, can be repeated, and moves aside what may hold a secret.
//!
//! What was judged may have changed since, so nothing is done that the present state does not call for.

use std::io;
use std::path::{Path, PathBuf};

use tokensink_host::atomic;
use tokensink_host::lock::KernelLock;
use tokensink_store::{
    CasOutcome, Cleared, Editor, Expected, LockPlace, OrderPlacement, Paths, Session, StoreError, clear_lock,
    real_path,
};
use tokensink_types::{AgentId, CredentialKind, ProfileId, ProviderId, UnixMillis};

use super::Doctor;
use super::judge::CLI_LOCK_AGE;
use crate::error::{ErrorKind, Result, SinkError};

/// How many names are tried for files of one name that are moved in one second.
const NAMES_MAX: u32 = 100;

/// What `--fix` does about a finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Repair {
    /// Sets the permission bits of a file or folder.
    SetMode {
        /// Which.
        path: PathBuf,
        /// The bits.
        mode: u32,
    },
    /// Moves a file that nobody wants into `tokensink/aside`.
    MoveAside {
        /// Which.
        path: PathBuf,
        /// The file that it was to become, whose lock is held meanwhile.
        of: Option<PathBuf>,
    },
    /// Sets an agent's unreadable store aside and puts back the grants that the refresh records know.
    SetStoreAside {
        /// Whose.
        agent: AgentId,
    },
    /// Sets an agent's unreadable state aside.
    SetStateAside {
        /// Whose.
        agent: AgentId,
    },
    /// Sets an agent's unreadable sessions aside.
    SetSessionsAside {
        /// Whose.
        agent: AgentId,
    },
    /// Lets the sessions of an agent that keep a profile which does not exist keep none.
    Unpin {
        /// Whose.
        agent: AgentId,
        /// Which.
        profile: ProfileId,
    },
    /// Moves a refresh record into `tokensink/aside`.
    SetRecordAside {
        /// Its file.
        record: PathBuf,
    },
    /// Removes a lock that nobody can hold.
    ClearLock {
        /// Which.
        place: LockPlace,
    },
    /// Removes an empty, abandoned lock folder of Claude Code.
    RemoveCliLock {
        /// Which.
        path: PathBuf,
    },
    /// Writes a secret anew without the white space around it.
    TidySecret {
        /// Whose.
        agent: AgentId,
        /// Which.
        profile: ProfileId,
    },
    /// Takes a profile that does not exist out of an agent's state.
    ForgetInState {
        /// Whose.
        agent: AgentId,
        /// Which.
        profile: ProfileId,
    },
    /// Takes a profile that does not exist out of `auth.profiles` and `auth.order`.
    RemoveFromConfig {
        /// Which.
        id: ProfileId,
    },
    /// Gives a profile the id under which it is stored (spec.md 3.4, 3.5).
    RenameInConfig {
        /// The id in the config.
        from: ProfileId,
        /// The id in the store.
        to: ProfileId,
        /// Its provider.
        provider: ProviderId,
        /// Its e-mail address.
        email: Option<String>,
    },
    /// Makes an entry of `auth.profiles` say what is stored.
    CorrectInConfig {
        /// Which.
        id: ProfileId,
        /// Its provider.
        provider: ProviderId,
        /// Its kind.
        mode: CredentialKind,
        /// Its e-mail address.
        email: Option<String>,
    },
}

impl Repair {
    /// What would be done, as a question.
    #[must_use]
    pub fn question(&self) -> &'static str {
        match self {
            Self::SetStoreAside { .. } => "Set it aside, and put back what the refresh records know?",
            Self::SetRecordAside { .. } | Self::MoveAside { .. } => "Move it to tokensink/aside?",
            Self::RenameInConfig { .. } => "Rename it in openclaw.json?",
            Self::SetSessionsAside { .. } => "Set it aside?",
            Self::SetMode { .. }
            | Self::SetStateAside { .. }
            | Self::Unpin { .. }
            | Self::ClearLock { .. }
            | Self::RemoveCliLock { .. }
            | Self::TidySecret { .. }
            | Self::ForgetInState { .. }
            | Self::RemoveFromConfig { .. }
            | Self::CorrectInConfig { .. } => "Mend it?",
        }
    }
}

/// Where files go that nobody wants and that may hold secrets.
pub(super) fn aside_dir(paths: &Paths) -> PathBuf {
    paths.own_dir().join("aside")
}

pub(super) fn repair(doctor: &Doctor, repair: &Repair) -> Result<String> {
    if doctor.readonly {
        let message = "OPENCLAW_AUTH_STORE_READONLY is set, so doctor mends nothing";
        return Err(SinkError::new(ErrorKind::Failed, "readonly", message)
            .with_fix("unset OPENCLAW_AUTH_STORE_READONLY"));
    }
    match repair {
        Repair::SetMode { path, mode } => set_mode(doctor, path, *mode),
        Repair::MoveAside { path, of } => move_aside(doctor, path, of.as_deref()),
        Repair::SetStoreAside { agent } => set_store_aside(doctor, agent),
        Repair::SetStateAside { agent } => {
            // The store sets an unreadable state aside before it changes it.
            doctor.store().update_state(agent, |_| ())?;
            let path = doctor.paths_of_config().state_file(agent);
            Ok(format!("set {} aside", path.display()))
        }
        Repair::SetSessionsAside { agent } => set_sessions_aside(doctor, agent),
        Repair::Unpin { agent, profile } => unpin(doctor, agent, profile),
        Repair::SetRecordAside { record } => {
            let _admission = KernelLock::try_acquire(&doctor.host, &doctor.paths.admission_lock())
                .map_err(StoreError::from)?;
            move_aside(doctor, record, None)
        }
        Repair::ClearLock { place } => clear(doctor, place),
        Repair::RemoveCliLock { path } => remove_cli_lock(doctor, path),
        Repair::TidySecret { agent, profile } => tidy(doctor, agent, profile),
        Repair::ForgetInState { agent, profile } => {
            doctor
                .store()
                .update_state(agent, |state| state.forget(profile))?;
            Ok(format!("took {profile} out of the state of agent {agent}"))
        }
        Repair::RemoveFromConfig { id } => {
            doctor.config_store().edit(|editor| editor.remove_profile(id))?;
            Ok(format!("took {id} out of openclaw.json"))
        }
        Repair::RenameInConfig {
            from,
            to,
            provider,
            email,
        } => {
            let rename = |editor: &Editor| rename(editor, from, to, provider, email.as_deref());
            doctor.config_store().edit(rename)?;
            Ok(format!("Auth: migrate {from} → {to} (OAuth profile id)"))
        }
        Repair::CorrectInConfig {
            id,
            provider,
            mode,
            email,
        } => {
            let place = OrderPlacement::AppendIfMissing;
            doctor
                .config_store()
                .edit(|editor| editor.apply_profile(id, provider, mode.as_str(), email.as_deref(), place))?;
            Ok(format!("corrected auth.profiles[\"{id}\"]"))
        }
    }
}

fn failed(what: String) -> impl FnOnce(io::Error) -> SinkError {
    move |error| SinkError::new(ErrorKind::Failed, "repair", what).because(error)
}

fn set_mode(doctor: &Doctor, path: &Path, mode: u32) -> Result<String> {
    doctor
        .host
        .files
        .set_mode(path, mode)
        .map_err(failed(format!("the mode of {} cannot be set", path.display())))?;
    Ok(format!("set the mode of {} to {mode:04o}", path.display()))
}

/// Moves a file to `tokensink/aside/<time>-<name>`, readable by its owner only. Nothing there is ever overwritten.
fn move_aside(doctor: &Doctor, path: &Path, of: Option<&Path>) -> Result<String> {
    let host = &doctor.host;
    let files = &*host.files;
    let cannot = |error| failed(format!("{} cannot be moved aside", path.display()))(error);
    let _writer = match of {
        Some(of) => {
            let real = real_path(files, of).map_err(cannot)?;
            Some(KernelLock::try_acquire(host, &doctor.paths.file_lock(&real)).map_err(StoreError::from)?)
        }
        None => None,
    };
    if files.stat(path).map_err(cannot)?.is_none() {
        return Ok(format!("{} is gone", path.display()));
    }
    let dir = aside_dir(&doctor.paths);
    atomic::ensure_dir(files, &dir, 0o700).map_err(cannot)?;
    files.set_mode(path, 0o600).map_err(cannot)?;
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    let stamp = stamp_text(host.clock.now());
    for number in 1..=NAMES_MAX {
        let number = if number == 1 {
            String::new()
        } else {
            format!("-{number}")
        };
        let target = dir.join(format!("{stamp}{number}-{}", name.trim_start_matches('.')));
        if files.stat(&target).map_err(cannot)?.is_some() {
            continue;
        }
        files.rename(path, &target).map_err(cannot)?;
        let from = path.parent().unwrap_or(path);
        files
            .sync_dir(&dir)
            .and_then(|()| files.sync_dir(from))
            .map_err(cannot)?;
        return Ok(format!("moved {} to {}", path.display(), target.display()));
    }
    Err(cannot(io::ErrorKind::AlreadyExists.into()))
}

/// `yyyymmddThhmmssZ`.
fn stamp_text(now: UnixMillis) -> String {
    jiff::Timestamp::from_millisecond(now.0).map_or_else(
        |_| now.to_string(),
        |at| at.strftime("%Y%m%dT%H%M%SZ").to_string(),
    )
}

/// The store sets an unreadable file aside for the first login into it. What the records know is put back: their
/// newest generations are what the store held when it was last written by us.
fn set_store_aside(doctor: &Doctor, agent: &AgentId) -> Result<String> {
    let store = doctor.store();
    let path = doctor.paths_of_config().profiles_file(agent);
    if !matches!(store.load(agent), Err(StoreError::Unreadable(_))) {
        return Ok(format!("{} can be read again", path.display()));
    }
    let owner = store.owner_path(agent)?;
    let mut restored = Vec::new();
    for record in doctor.journal().list()?.records {
        let Some(newest) = record.generation.filter(|_| record.store == owner) else {
            continue;
        };
        let oauth = tokensink_types::OAuth {
            provider: record.provider,
            tokens: newest.tokens,
            labels: tokensink_types::Labels {
                email: newest.account.email.clone(),
                display_name: None,
            },
            account: newest.account,
            client_id: None,
            fields: newest.fields,
        };
        let credential = tokensink_types::Credential::OAuth(oauth);
        if store.compare_and_set(agent, &record.profile, Expected::Absent, Some(&credential))?
            == CasOutcome::Done
        {
            restored.push(record.profile.to_string());
        }
    }
    if restored.is_empty() {
        let _lock = KernelLock::try_acquire(&doctor.host, &doctor.paths.file_lock(Path::new(&owner)))
            .map_err(StoreError::from)?;
        let kept = tokensink_store::set_aside(&doctor.host, &path)?;
        return Ok(format!("moved {} to {}", path.display(), kept.display()));
    }
    Ok(format!(
        "set {} aside and put back {}",
        path.display(),
        restored.join(", ")
    ))
}

fn set_sessions_aside(doctor: &Doctor, agent: &AgentId) -> Result<String> {
    let kept = doctor.sessions().set_unreadable_aside(agent)?;
    if kept.is_empty() {
        return Ok(format!("the sessions of agent {agent} can be read again"));
    }
    let kept: Vec<String> = kept.iter().map(|path| path.display().to_string()).collect();
    Ok(format!(
        "set the sessions of agent {agent} aside as {}",
        kept.join(" and ")
    ))
}

fn unpin(doctor: &Doctor, agent: &AgentId, profile: &ProfileId) -> Result<String> {
    let sessions = doctor.sessions();
    let keeps = |session: &Session| session.profile.as_ref() == Some(profile);
    let is_other = |session: &Session| session.others.values().any(|other| other.profile == *profile);
    let all = sessions.load(agent)?;
    for (key, _) in all.map.iter().filter(|(_, one)| keeps(one) || is_other(one)) {
        sessions.update(agent, key, |session| {
            if keeps(session) {
                session.unpin();
            }
            session.others.retain(|_, other| other.profile != *profile);
        })?;
    }
    Ok(format!("took {profile} out of the sessions of agent {agent}"))
}

fn clear(doctor: &Doctor, place: &LockPlace) -> Result<String> {
    let shown = place.dot.display();
    match clear_lock(&doctor.host, place)? {
        Cleared::Gone => Ok(format!("removed the lock {shown}")),
        Cleared::NotEmpty => {
            let _kernel = KernelLock::try_acquire(&doctor.host, &place.kernel).map_err(StoreError::from)?;
            move_aside(doctor, &place.dot, None)
        }
        Cleared::Held => {
            let message = format!("{shown} is held by a living process now");
            Err(SinkError::new(ErrorKind::TryAgain, "held", message))
        }
    }
}

fn remove_cli_lock(doctor: &Doctor, path: &Path) -> Result<String> {
    let files = &*doctor.host.files;
    let cannot = || failed(format!("{} cannot be removed", path.display()));
    if let Some(stamp) = files.stat(path).map_err(cannot())? {
        let modified = i64::try_from(stamp.modified_ns / 1_000_000).unwrap_or(i64::MAX);
        if UnixMillis(modified).until(doctor.host.clock.now()) <= CLI_LOCK_AGE {
            let message = format!("{} is in use again", path.display());
            return Err(SinkError::new(ErrorKind::TryAgain, "held", message));
        }
        files.remove_dir(path).map_err(cannot())?;
    }
    Ok(format!("removed the lock {}", path.display()))
}

/// Removing and entering a secret again is what cleans it: the store writes what it reads.
fn tidy(doctor: &Doctor, agent: &AgentId, profile: &ProfileId) -> Result<String> {
    doctor.store().tidy(agent, profile)?;
    Ok(format!("took the white space off {profile} of agent {agent}"))
}

/// Moves an entry to the id under which the login is stored, and its places in orders with it (spec.md 3.4).
fn rename(
    editor: &Editor,
    from: &ProfileId,
    to: &ProfileId,
    provider: &ProviderId,
    email: Option<&str>,
) -> std::result::Result<(), String> {
    editor.rename_profile(from, to)?;
    if editor.get(&["auth", "profiles", to.as_str()]).is_some() {
        let mode = CredentialKind::OAuth.as_str();
        editor.apply_profile(to, provider, mode, email, OrderPlacement::AppendIfMissing)?;
    }
    Ok(())
}
