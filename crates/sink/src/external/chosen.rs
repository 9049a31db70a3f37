//! The logins of other programs that are in use, as they are now: the user's choices with what their places hold.
//!
//! Kept while nothing changes, for one `stat` per place and call; the choices themselves are looked at once a second.
//! A Keychain item has no stamp and is read again after a while. Nothing is looked for here: what the user has not
//! chosen is not touched.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokensink_host::FileStamp;
use tokensink_neighbours::{Login, Neighbour, Place, Reading, described_account, read};
use tokensink_types::{Credential, OAuth, ProfileId, UnixMillis};

use super::claim::Claims;
use super::modes::{Entry, ExternalMode, Modes};
use crate::sink::Sink;

/// How often a process looks whether the choices have changed.
const RECHECK: Duration = Duration::from_secs(1);
/// How long the reading of a Keychain item counts.
const KEYCHAIN_RECHECK: Duration = Duration::from_secs(30);
/// How long before it was read a file must have been changed for its stamp to be trusted: a file system's clock goes
/// in steps, and two writes within one step leave the same stamp.
const SETTLE: Duration = Duration::from_secs(2);

/// A choice with what its place holds now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chosen {
    pub(crate) entry: Entry,
    /// Names the place and its record, cheaply copied.
    pub(crate) key: Arc<str>,
    /// What is there; `None` for the modes in which nobody looks.
    pub(crate) reading: Option<Arc<Reading>>,
    /// The other state dir that refreshes this login.
    pub(crate) claimed_by: Option<PathBuf>,
    /// The claim could not be read.
    pub(crate) trouble: Option<Trouble>,
}

/// Why it is not known whether a login is ours to refresh, which may pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trouble {
    pub(crate) why: String,
    /// The command that helps.
    pub(crate) fix: Option<String>,
}

impl Chosen {
    pub(crate) fn place(&self) -> &Place {
        &self.entry.place
    }

    pub(crate) fn neighbour(&self) -> Neighbour {
        self.entry.place.neighbour
    }

    pub(crate) fn profile(&self) -> &ProfileId {
        &self.entry.profile
    }

    /// Does the name of the place lead elsewhere than when the choice was made?
    pub(crate) fn is_moved(&self) -> bool {
        self.entry.place.key() != self.entry.key
    }

    /// The mode in force: what was chosen, or `borrowed` where that is more than can be done.
    pub(crate) fn mode(&self) -> ExternalMode {
        match self.entry.mode {
            ExternalMode::Cooperative if self.why_only_borrowed().is_some() => ExternalMode::Borrowed,
            mode => mode,
        }
    }

    /// Why a login that was to be refreshed is only borrowed.
    pub(crate) fn why_only_borrowed(&self) -> Option<String> {
        if self.entry.mode != ExternalMode::Cooperative {
            return None;
        }
        if let Some(other) = &self.claimed_by {
            return Some(format!("{} refreshes it already", other.display()));
        }
        if let Some(trouble) = &self.trouble {
            return Some(trouble.why.clone());
        }
        self.any_login()?.only_borrowed.clone()
    }

    /// Why a login that was to be refreshed cannot be at this moment, where that may pass.
    pub(crate) fn passing_trouble(&self) -> Option<&Trouble> {
        self.trouble
            .as_ref()
            .filter(|_| self.entry.mode == ExternalMode::Cooperative)
    }

    /// The login that is there, blank or not.
    pub(crate) fn any_login(&self) -> Option<&Login> {
        match self.reading.as_deref()? {
            Reading::Login(login) | Reading::Blanked(login) => Some(login),
            _ => None,
        }
    }

    /// The grant that is there. One that its program has blanked counts only for whoever may heal it.
    pub(crate) fn oauth(&self) -> Option<&OAuth> {
        match (self.reading.as_deref()?, self.mode()) {
            (Reading::Login(login), _) | (Reading::Blanked(login), ExternalMode::Cooperative) => {
                login.credential.as_oauth()
            }
            _ => None,
        }
    }

    fn serves(&self) -> bool {
        matches!(
            self.entry.mode,
            ExternalMode::Borrowed | ExternalMode::Cooperative
        )
    }
}

/// All choices.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Externals {
    pub(crate) list: Vec<Chosen>,
    /// The programs that ask us for each token.
    pub(crate) wired: Vec<Neighbour>,
    /// Why the choices are not known.
    pub(crate) unreadable: Option<String>,
}

impl Externals {
    /// The login in use at this place.
    pub(crate) fn at(&self, key: &str) -> Option<&Chosen> {
        self.list.iter().find(|one| &*one.key == key)
    }

    /// The login in use under this profile id.
    pub(crate) fn serving(&self, id: &ProfileId) -> Option<&Chosen> {
        self.list.iter().find(|one| one.serves() && one.profile() == id)
    }
}

/// What is kept between two calls.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    current: Arc<Externals>,
    /// The stamp of the choices, and when it was seen; `None` before the first look.
    choices: Option<(Option<FileStamp>, Duration)>,
    /// For each choice what was seen when its place was read.
    seen: Vec<Seen>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Seen {
    stamp: Option<FileStamp>,
    /// Monotonic.
    at: Duration,
    settled: bool,
}

impl Sink {
    /// The logins of other programs in use, as they are now.
    pub(crate) fn externals(&self) -> Arc<Externals> {
        let mut cache = self
            .external_cache()
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let now = self.host().clock.monotonic();
        let looked = cache.choices.map(|(_, at)| at);
        if looked.is_none_or(|at| now.saturating_sub(at) >= RECHECK) {
            self.look_at_choices(&mut cache, now);
        }
        self.look_at_places(&mut cache, now);
        Arc::clone(&cache.current)
    }

    /// Makes the next look read everything anew: for whoever decides under a lock, and after a change of our own.
    pub(crate) fn forget_externals(&self) {
        let mut cache = self
            .external_cache()
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        cache.choices = None;
        cache.seen.clear();
    }

    fn look_at_choices(&self, cache: &mut Cache, now: Duration) {
        let path = self.external_file();
        let stamp = self.host().files.stat(&path).ok().flatten();
        let known = cache.choices.replace((stamp, now));
        // What could not be told of a claim then may be known now.
        let is_settled = cache.current.list.iter().all(|one| one.trouble.is_none());
        if is_settled && known.is_some_and(|(known, _)| known == stamp) {
            return;
        }
        let (modes, unreadable) = match Modes::load(self.host(), &path) {
            Ok((modes, _)) => (modes, None),
            Err(error) => (Modes::default(), Some(error.to_string())),
        };
        let entries = modes.entries(self.host()).into_iter();
        let known = Neighbour::ALL.into_iter();
        let fresh = Externals {
            list: entries.map(|entry| self.chosen(entry)).collect(),
            wired: known.filter(|neighbour| modes.is_wired(*neighbour)).collect(),
            unreadable,
        };
        cache.seen.clear();
        if *cache.current != fresh {
            cache.current = Arc::new(fresh);
        }
    }

    /// A choice before its place was looked at.
    fn chosen(&self, entry: Entry) -> Chosen {
        let mut trouble = None;
        let mut claimed_by = None;
        if entry.mode == ExternalMode::Cooperative {
            match Claims::new(self.host(), self.state_dir()).other(&entry.key) {
                Ok(other) => claimed_by = other,
                Err(error) => {
                    trouble = Some(Trouble {
                        why: format!("it is not known whether another state dir has it: {error}"),
                        fix: error.command(),
                    });
                }
            }
        }
        Chosen {
            key: entry.key.as_str().into(),
            entry,
            reading: None,
            claimed_by,
            trouble,
        }
    }

    fn look_at_places(&self, cache: &mut Cache, now: Duration) {
        let first = cache.seen.len() != cache.current.list.len();
        let mut next: Option<Vec<Chosen>> = None;
        let mut seen = Vec::with_capacity(cache.current.list.len());
        for (place, one) in cache.current.list.iter().enumerate() {
            let stamp = one
                .place()
                .path()
                .and_then(|path| self.host().files.stat(path).ok().flatten());
            let known = cache.seen.get(place).filter(|_| !first);
            if let Some(known) = known.filter(|known| !one.serves() || known.holds(one, stamp, now)) {
                seen.push(*known);
                continue;
            }
            let looked = self.looked_at(one);
            seen.push(Seen::of(stamp, now, self.now()));
            if looked != *one {
                next.get_or_insert_with(|| cache.current.list.clone())[place] = looked;
            }
        }
        cache.seen = seen;
        if let Some(list) = next {
            cache.current = Arc::new(Externals {
                list,
                wired: cache.current.wired.clone(),
                unreadable: cache.current.unreadable.clone(),
            });
        }
    }

    fn looked_at(&self, one: &Chosen) -> Chosen {
        let mut next = one.clone();
        if !one.serves() {
            return next;
        }
        if let Some(path) = one.place().path() {
            // A link may lead elsewhere by now; the choice was made for where it led then.
            next.entry.place = Place::file(self.host(), one.neighbour(), path);
        }
        next.reading = Some(Arc::new(if next.is_moved() {
            Reading::Unusable {
                reason: format!(
                    "{} led to {} when its mode was chosen and leads to {} now; choose again",
                    next.entry.place,
                    next.entry.key,
                    next.entry.place.key()
                ),
            }
        } else {
            self.read_with_account(next.place())
        }));
        next
    }

    /// A blanked login does not say whose it was; Claude Code's description of its account does, and only that account
    /// may be healed.
    fn read_with_account(&self, place: &Place) -> Reading {
        let mut reading = read(self.host(), place);
        if let Reading::Blanked(login) = &mut reading
            && let Credential::OAuth(oauth) = &mut login.credential
        {
            oauth.account = oauth.account.updated_by(&described_account(self.host(), place));
        }
        reading
    }
}

impl Seen {
    fn of(stamp: Option<FileStamp>, at: Duration, wall: UnixMillis) -> Self {
        let settled = stamp.is_none_or(|stamp| {
            let modified = i64::try_from(stamp.modified_ns / 1_000_000).unwrap_or(i64::MAX);
            UnixMillis(modified).until(wall) >= SETTLE
        });
        Self { stamp, at, settled }
    }

    /// Is what was read then what would be read now?
    fn holds(&self, one: &Chosen, stamp: Option<FileStamp>, now: Duration) -> bool {
        if one.place().path().is_none() {
            return now.saturating_sub(self.at) < KEYCHAIN_RECHECK;
        }
        self.settled && self.stamp == stamp
    }
}
