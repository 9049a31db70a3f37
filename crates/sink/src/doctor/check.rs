//! The table of what doctor looks for. Ids are stable: scripts may rely on them.

use std::fmt;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Something does not work, or a secret is open to others.
    Error,
    /// It works now, and will bite.
    Warning,
    /// Worth knowing; it does not count for the exit code.
    Note,
}

impl Severity {
    /// The word in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }
}

/// Who mends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mend {
    /// `--fix` does, without a question: nothing can be lost by it.
    Safe,
    /// `--fix` does after a question, or with `--yes`.
    Asked,
    /// The user, by the command or the words that the finding gives.
    ByHand,
}

impl Mend {
    /// The word in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Safe => "safe",
            Self::Asked => "asked",
            Self::ByHand => "by-hand",
        }
    }
}

/// One thing that doctor looks for.
#[derive(Debug, PartialEq, Eq)]
pub struct Check {
    /// Its id: kebab-case, stable.
    pub id: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// Who mends it at best; a finding may still have to be mended by hand.
    pub mend: Mend,
    /// What it is, as a heading.
    pub what: &'static str,
    /// Why it matters.
    pub why: &'static str,
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id)
    }
}

/// Makes the constants and the list of them from one table.
macro_rules! checks {
    ($($name:ident = $id:literal, $severity:ident, $mend:ident, $what:literal, $why:literal;)*) => {
        $(pub(super) const $name: Check = Check {
            id: $id,
            severity: Severity::$severity,
            mend: Mend::$mend,
            what: $what,
            why: $why,
        };)*
        /// Everything that doctor looks for, in the order of the documentation.
        pub const CHECKS: &[&Check] = &[$(&$name),*];
    };
}

checks! {
    // Files and folders.
    LOOSE_FILE = "loose-file", Error, Safe,
        "a file with secrets that others may read",
        "every user and program of this machine can take the logins in it";
    LOOSE_DIRECTORY = "loose-directory", Warning, Safe,
        "a folder of logins that others may enter",
        "others see which logins there are, and read each file that is made with a loose mode";
    FOREIGN_OWNER = "foreign-owner", Error, ByHand,
        "a file or folder of another user, often left by sudo",
        "it cannot be replaced by us, so the next refresh cannot be stored";
    RUN_AS_ROOT = "run-as-root", Warning, ByHand,
        "doctor runs as root on another user's folder",
        "what root writes there belongs to root, and its user can no longer change it";
    NOT_READABLE = "not-readable", Error, ByHand,
        "a file that cannot be read",
        "what is in it does not count, and nothing can be stored in it";
    DANGLING_LINK = "dangling-link", Error, ByHand,
        "a link that leads nowhere",
        "logins that were behind it look as if they had never been there";
    STORE_UNREADABLE = "store-unreadable", Error, Asked,
        "an auth-profiles.json that does not parse",
        "no profile in it can be used; it is never written over";
    STATE_UNREADABLE = "state-unreadable", Warning, Safe,
        "an auth-state.json that does not parse",
        "orders and cooldowns do not count until it is set aside; it holds no secrets";
    SESSIONS_UNREADABLE = "sessions-unreadable", Warning, Asked,
        "a sessions.json that does not parse",
        "models and accounts that were chosen for conversations do not count; the next change sets it aside";
    CONFIG_UNREADABLE = "config-unreadable", Error, ByHand,
        "an openclaw.json that does not parse",
        "no command works on it, because a misread order could use a login that must not be used";
    SETTINGS_INVALID = "settings-invalid", Error, ByHand,
        "a tokensink/config.toml that does not hold",
        "no command works, because a misread setting could use a login that must not be used";
    PROVIDER_FILE_INVALID = "provider-file-invalid", Error, ByHand,
        "a provider definition that does not hold",
        "the provider is used without it, or not at all";
    OWN_STATE_UNREADABLE = "own-state-unreadable", Error, Asked,
        "a file in tokensink/state that does not parse",
        "what was chosen there, such as the modes of other programs' logins, does not count";
    RECORD_UNREADABLE = "record-unreadable", Warning, Safe,
        "a refresh record that is damaged",
        "what happened at the last refresh of its login is not known";
    ORPHAN_RECORD = "orphan-record", Note, Asked,
        "a refresh record without its login",
        "it still holds tokens, of a login that was removed by another program or whose folder has moved";
    TEMPORARY_FILE = "temporary-file", Warning, Safe,
        "a temporary file of a writer that died",
        "it may hold secrets, and nobody will remove it";
    SET_ASIDE_FILE = "set-aside-file", Note, Safe,
        "an unreadable file that was set aside",
        "it may hold secrets; look whether something in it is still wanted";

    // Locks.
    STALE_LOCK = "stale-lock", Warning, Safe,
        "a lock file whose holder is dead",
        "old programs wait for it before they take it over";
    TORN_LOCK = "torn-lock", Error, Safe,
        "a lock file that is empty or half-written",
        "OpenClaw waits for such a lock for ever";
    LOCK_DIRECTORY = "lock-directory", Error, Safe,
        "a folder where a lock file belongs",
        "OpenClaw from 2026.3.13 on can never take this lock";
    STALE_CLI_LOCK = "stale-cli-lock", Warning, Safe,
        "an abandoned lock of Claude Code",
        "some versions never take it over, and every refresh then fails";

    // Logins.
    DUPLICATE_GRANT = "duplicate-grant", Error, ByHand,
        "one grant in several places",
        "whoever refreshes first spends the refresh token, and the others are logged out; strict servers then end the whole login";
    GRANT_IN_BACKUP = "grant-in-backup", Warning, ByHand,
        "a copy of a live grant in a backup",
        "restored, it sends a spent refresh token, and strict servers then end the whole login";
    GRANT_REFUSED = "grant-refused", Error, ByHand,
        "a grant that the provider refused for good",
        "its profile cannot be used until somebody logs in";
    GRANT_WITHOUT_REFRESH = "grant-without-refresh", Error, ByHand,
        "an OAuth login that has ended and has no refresh token",
        "its profile cannot be used until somebody logs in";
    TOKEN_EXPIRED = "token-expired", Error, ByHand,
        "a static token that has ended",
        "its profile cannot be used until a new one is stored";
    PASTED_CODE = "pasted-code", Error, ByHand,
        "a code with its state where a token belongs",
        "it is what a login page shows on the way to a token, and no server takes it for one";
    UNTIDY_SECRET = "untidy-secret", Warning, Safe,
        "white space around a stored secret",
        "tokensink ignores it; other programs send it, and are refused";
    SPACED_SECRET = "spaced-secret", Warning, ByHand,
        "white space in the middle of a stored secret",
        "no server takes it; something else was probably pasted";
    IGNORED_ENTRY = "ignored-entry", Warning, ByHand,
        "an entry of auth-profiles.json that is no credential",
        "it is kept and never used";
    UNKNOWN_PROVIDER = "unknown-provider", Warning, ByHand,
        "a profile of a provider that has no definition",
        "nobody knows where to refresh it or where it may be used";

    // The config and the state.
    LEGACY_DEFAULT_ID = "legacy-default-id", Warning, Safe,
        "an auth.profiles entry under an id of older versions",
        "the config speaks of a login that is stored under another id, so it is not found";
    CODEX_ID_OF_OTHER_AGE = "codex-id-of-other-age", Warning, Asked,
        "openai:… in the config for a login that is stored as openai-codex:…, or the other way round",
        "later versions renamed these ids; until both say the same, the login is not found";
    DEAD_ORDER = "dead-order", Warning, Safe,
        "an order that names a profile which does not exist",
        "the profile that was meant may be left out of the order under its new id";
    DEAD_REFERENCE = "dead-reference", Note, Safe,
        "state of a profile that does not exist",
        "a profile that gets this id later inherits its cooldowns";
    DEAD_PIN = "dead-pin", Warning, Safe,
        "a session that somebody pinned to a profile which does not exist",
        "its next request goes to another account than the one that was chosen";
    DEAD_AUTOMATIC_PIN = "dead-automatic-pin", Note, Safe,
        "a session that keeps a profile which does not exist",
        "its next request goes to another account, without the provider's prompt cache";
    MISSING_PROFILE = "missing-profile", Warning, Safe,
        "an auth.profiles entry without a stored profile",
        "while a provider has such entries, its other profiles are not used";
    PROFILE_MISMATCH = "profile-mismatch", Error, Safe,
        "an auth.profiles entry that contradicts the stored profile",
        "a profile whose provider or mode is another than the config says is not used";
    SHARED_AGENT_DIR = "shared-agent-dir", Error, ByHand,
        "two agents with one folder",
        "they use each other's logins, and a logout of one is a logout of both";
    AGENT_DIR_OF_OTHER_STATE = "agent-dir-of-other-state", Error, ByHand,
        "an agent folder inside another state directory",
        "the two state directories lock in different places, so both can spend one refresh token";

    // The environment.
    ENV_KEY_SHADOWS = "env-key-shadows", Warning, ByHand,
        "an API key in the environment beside a subscription",
        "tokensink ignores the variable; other programs prefer it and bill by use";
    READ_ONLY = "read-only", Warning, ByHand,
        "OPENCLAW_AUTH_STORE_READONLY is set",
        "nothing can be refreshed, and doctor can mend nothing";
    BAD_PROXY = "bad-proxy", Error, ByHand,
        "a proxy variable that cannot be used",
        "every login and refresh fails; going past the proxy in silence could leak what it holds";
    CA_FILE = "ca-file", Error, ByHand,
        "a certificate file that is missing or holds no certificate",
        "every connection to a provider fails";
    CLOCK_BEHIND = "clock-behind", Error, ByHand,
        "a clock that is behind what was written",
        "expired tokens look valid, and valid certificates do not";

    // The disk.
    STATE_DIR_NOT_WRITABLE = "state-dir-not-writable", Error, ByHand,
        "a folder of logins that cannot be written",
        "a refresh cannot be recorded there, so it is not begun";
    NO_FILE_LOCKS = "no-file-locks", Error, ByHand,
        "a file system without working locks",
        "two processes could spend one refresh token";
    NO_HARD_LINKS = "no-hard-links", Error, ByHand,
        "a file system without hard links",
        "a lock that OpenClaw respects cannot be made whole";
    NO_FSYNC = "no-fsync", Error, ByHand,
        "a file system that does not make data durable",
        "a loss of power after a refresh could lose the new refresh token";
    NETWORK_FILE_SYSTEM = "network-file-system", Warning, ByHand,
        "a state directory on a network file system",
        "its locks may not reach other machines; use it from one machine only";
    SYNCED_FOLDER = "synced-folder", Warning, ByHand,
        "a state directory in a synced folder",
        "logins are copied to other machines, and old versions of them are written back";
    LOW_DISK_SPACE = "low-disk-space", Warning, ByHand,
        "a disk that is nearly full",
        "new logins cannot be stored; refreshes of known ones still work";

    // With --net.
    ENDPOINT_UNREACHABLE = "endpoint-unreachable", Error, ByHand,
        "a token endpoint that cannot be reached",
        "its logins cannot be refreshed from here";
    CLOCK_OFFSET = "clock-offset", Error, ByHand,
        "a clock that is wrong",
        "tokens are refreshed too late or too early, and certificates may be refused";
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_are_unique_and_of_one_shape() {
        let mut seen = HashSet::new();
        for check in CHECKS {
            assert!(seen.insert(check.id), "{check} stands twice");
            let fine = |c: char| c.is_ascii_lowercase() || c == '-';
            assert!(check.id.chars().all(fine), "{check}");
            assert!(!check.what.ends_with('.') && !check.why.ends_with('.'), "{check}");
        }
    }
}
