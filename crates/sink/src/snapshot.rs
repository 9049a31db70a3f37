//! What an agent sees at one moment, with everything that decisions need, kept while no file changes.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError};

use tokensink_policy as policy;
use tokensink_store::legacy::ImportReport;
use tokensink_store::{AgentStore, OwnedProfile, RecordKey, StoreError, Usage, View, Warning};
use tokensink_types::{AgentId, Credential, ProfileId, ProviderId};

use crate::calls::benches::{Entry, Seen};
use crate::calls::epoch::Identity;
use crate::calls::projection::Lanes;
use crate::error::Result;
use crate::external::{Externals, Guest, Guests};
use crate::grant::with_generation;
use crate::kept::Kept;
use crate::owner::{Keeper, Target};
use crate::secrets::config::SecretsConfig;
use crate::sink::Sink;
use crate::turns::Turn;

/// What an agent sees at one moment, with everything that decisions need.
#[derive(Debug)]
pub(crate) struct AgentSnapshot {
    pub(crate) view: View,
    pub(crate) config: Arc<policy::Config>,
    /// Shared with the notes for `explain`, which outlive the snapshot by a while and need nothing else of it.
    pub(crate) state: Arc<policy::State>,
    pub(crate) warnings: Vec<String>,
    /// Main's store could not be read; what would be inherited is not known.
    pub(crate) main_error: Option<Arc<StoreError>>,
    sources: Sources,
    /// Which of the profiles are logins that other programs keep.
    guests: Guests,
    /// The real paths of the stores in `sources`, which name their refresh records.
    owner_paths: Vec<(AgentId, String)>,
    /// What was served of it.
    pub(crate) kept: Kept,
    /// The [`Sink::generation`] under which it was last held against its files.
    held_at: AtomicU64,
    /// The turn in which its benches were last looked at; 0 for none.
    looked_in: AtomicU64,
    /// Positions in `state.candidates`, made by the first who goes through all of them.
    positions: OnceLock<HashMap<ProfileId, usize>>,
}

/// The stores that a snapshot is made of.
#[derive(Debug)]
struct Sources {
    own: Arc<AgentStore>,
    /// Main's, where the agent inherits from it.
    main: Option<Arc<AgentStore>>,
    /// The logins of other programs in use; they are main's profiles.
    externals: Arc<Externals>,
    /// What is believed of the profiles, store by store.
    benches: Benched,
}

/// The benches of the agent's own profiles and of main's.
#[derive(Debug)]
struct Benched {
    own: Seen,
    main: Option<Seen>,
}

impl Benched {
    fn are(&self, others: &Self) -> bool {
        let same_main = match (&self.main, &others.main) {
            (Some(one), Some(other)) => one.is(other),
            (one, other) => one.is_none() && other.is_none(),
        };
        same_main && self.own.is(&others.own)
    }

    fn all(&self) -> impl Iterator<Item = &Seen> {
        std::iter::once(&self.own).chain(&self.main)
    }
}

/// What each agent was last seen to see. Asked several times for each request.
pub(crate) type Snapshots = foldhash::HashMap<AgentId, Arc<AgentSnapshot>>;

impl Sources {
    /// Nothing was read anew.
    fn are(&self, others: &Self) -> bool {
        let same_main = match (&self.main, &others.main) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (one, other) => one.is_none() && other.is_none(),
        };
        same_main
            && Arc::ptr_eq(&self.own, &others.own)
            && Arc::ptr_eq(&self.externals, &others.externals)
            && self.benches.are(&others.benches)
    }

    /// What is believed of a profile.
    fn belief(&self, owner: &AgentId, id: &ProfileId) -> Option<&Entry> {
        let own = Some(&self.benches.own).filter(|_| self.own.agent == *owner);
        own.or(self.benches.main.as_ref())?.entry(id)
    }

    /// Could the owner's `auth-state.json` be read?
    fn is_state_known(&self, owner: &AgentId) -> bool {
        self.all()
            .find(|store| store.agent == *owner)
            .is_some_and(AgentStore::is_state_known)
    }

    /// The fields of an OAuth profile that hold a reference, which none may.
    fn oauth_refs(&self, profile: &OwnedProfile) -> &[String] {
        let owner = self.all().find(|store| store.agent == profile.owner);
        owner.map_or(&[], |store| store.profiles.oauth_refs(&profile.entry.id))
    }

    fn all(&self) -> impl Iterator<Item = &AgentStore> {
        std::iter::once(&*self.own).chain(self.main.as_deref())
    }
}

impl AgentSnapshot {
    /// The key of a profile's refresh record, without looking at the disk.
    pub(crate) fn record_key(&self, target: &Target) -> Option<RecordKey> {
        let store = match &target.keeper {
            Keeper::Agent => {
                let mut paths = self.owner_paths.iter();
                paths.find(|(owner, _)| *owner == target.owner)?.1.clone()
            }
            Keeper::Cooperative(key) => key.to_string(),
            Keeper::Borrowed(_) => return None,
        };
        Some(RecordKey {
            store,
            profile: target.profile.clone(),
        })
    }

    /// Where a profile in view is kept.
    pub(crate) fn target_of(&self, profile: &OwnedProfile) -> Target {
        self.guests.target_of(profile)
    }

    /// Which other program's login a profile in view is.
    pub(crate) fn guest(&self, profile: &OwnedProfile) -> Option<&Guest> {
        self.guests.of(profile)
    }

    /// What is believed of a profile in view.
    pub(crate) fn belief(&self, owner: &AgentId, id: &ProfileId) -> Option<&Entry> {
        self.sources.belief(owner, id)
    }

    /// The provider of a profile, by its canonical id.
    pub(crate) fn provider_of(&self, id: &ProfileId) -> Option<ProviderId> {
        let written = self.profile(id)?.entry.credential.provider();
        Some(self.config.aliases.canonical(written).clone())
    }

    pub(crate) fn profile(&self, id: &ProfileId) -> Option<&OwnedProfile> {
        self.view.get(id)
    }

    /// What selection knows of a profile, by an index: for loops over all profiles.
    pub(crate) fn candidate(&self, id: &ProfileId) -> Option<&policy::Candidate> {
        let candidates = &self.state.candidates;
        let positions = self.positions.get_or_init(|| {
            // Backwards, because the first counts where an id stands twice.
            let all = candidates.iter().enumerate().rev();
            all.map(|(at, candidate)| (candidate.id.clone(), at)).collect()
        });
        candidates.get(*positions.get(id)?)
    }
}

impl AgentSnapshot {
    fn is_from(&self, sources: &Sources, config: &Arc<policy::Config>) -> bool {
        self.sources.are(sources) && Arc::ptr_eq(&self.config, config)
    }
}

impl Sink {
    /// Looks at an agent's legacy files, once per process (design: what we implement).
    fn import_legacy(&self, agent: &AgentId) -> Vec<String> {
        let mut imported = self.imported().lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(notes) = imported.get(agent) {
            return notes.clone();
        }
        let notes = match tokensink_store::legacy::import(self.store(), agent) {
            Ok(report) => import_notes(&report),
            Err(error) => vec![format!(
                "the legacy files of agent {agent} were not imported: {error}"
            )],
        };
        imported.insert(agent.clone(), notes.clone());
        notes
    }

    /// What `agent` sees now; served from memory while no file has changed, and without a look at any but
    /// the benches' while a watch has seen none change; at those once in each turn.
    pub(crate) fn snapshot(&self, agent: &AgentId) -> Result<Arc<AgentSnapshot>> {
        // Before the files are read: what changes while they are being read counts as changed afterwards.
        let generation = self.generation();
        if self.is_watched() {
            let snapshots = self.snapshots().lock().unwrap_or_else(PoisonError::into_inner);
            let known = snapshots.get(agent).map(Arc::clone);
            drop(snapshots);
            // A watch tells of another process's bench a little later, and until then each of us would make a call that
            // is known to fail: one `stat` in each turn is cheaper.
            if let Some(known) = known
                .filter(|known| known.held_at.load(Ordering::Acquire) == generation)
                .filter(|known| self.has_its_benches(known, agent) && self.has_its_config(known))
            {
                return Ok(known);
            }
        }
        let snapshot = self.snapshot_of_files(agent)?;
        snapshot.held_at.store(generation, Ordering::Release);
        Ok(snapshot)
    }

    /// Do the benches say what they said when the snapshot was made?
    fn has_its_benches(&self, known: &AgentSnapshot, agent: &AgentId) -> bool {
        let turn = self.turn().map_or(0, Turn::number);
        if turn > 0 && known.looked_in.load(Ordering::Acquire) == turn {
            return true;
        }
        let same = self.benched(agent).are(&known.sources.benches);
        if same {
            known.looked_in.store(turn, Ordering::Release);
        }
        same
    }

    /// May still as much be spent as when the snapshot was made? It ends with a call of any process, and begins with a day.
    fn has_its_config(&self, known: &AgentSnapshot) -> bool {
        let is_same = |now: Arc<policy::Config>| Arc::ptr_eq(&known.config, &now);
        self.crossings_per_day().is_none() || self.policy_config().is_ok_and(is_same)
    }

    fn benched(&self, agent: &AgentId) -> Benched {
        Benched {
            own: self.calls().benches().read(agent),
            main: self
                .inherits(agent)
                .then(|| self.calls().benches().read(&AgentId::main())),
        }
    }

    fn snapshot_of_files(&self, agent: &AgentId) -> Result<Arc<AgentSnapshot>> {
        let mut notes = self.import_legacy(agent);
        if self.inherits(agent) {
            notes.extend(self.import_legacy(&AgentId::main()));
        }
        // Benches first: read after `auth-state.json` they could say of a window that another process has just written
        // there that somebody had cleared it.
        let benches = self.benched(agent);
        let own = self.store().load(agent)?;
        let (main, main_error) = if self.inherits(agent) {
            match self.store().load(&AgentId::main()) {
                Ok(main) => (Some(main), None),
                Err(error) => (None, Some(Arc::new(error))),
            }
        } else {
            (None, None)
        };
        let config = self.policy_config()?;
        let externals = self.externals();
        let sources = Sources {
            own,
            main,
            externals,
            benches,
        };
        let mut snapshots = self.snapshots().lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = snapshots
            .get(agent)
            .filter(|known| known.is_from(&sources, &config))
        {
            return Ok(Arc::clone(known));
        }
        let snapshot = Arc::new(self.build_snapshot(agent, config, sources, main_error, notes)?);
        snapshots.insert(agent.clone(), Arc::clone(&snapshot));
        Ok(snapshot)
    }

    fn build_snapshot(
        &self,
        agent: &AgentId,
        config: Arc<policy::Config>,
        sources: Sources,
        main_error: Option<Arc<StoreError>>,
        mut warnings: Vec<String>,
    ) -> Result<AgentSnapshot> {
        let canonical = |id: &ProviderId| self.registry().canonical(id);
        let (own, main, guests) = self.with_guests(&sources);
        let view = View::of(&own, main.as_deref(), &canonical);
        let secrets = self.secrets_config()?;
        let candidates = view
            .profiles
            .iter()
            .map(|profile| {
                let mut candidate = self.candidate(
                    profile,
                    &view,
                    (&secrets, &guests),
                    sources.belief(&profile.owner, &profile.entry.id),
                    sources.is_state_known(&profile.owner),
                );
                candidate.ref_fields = sources.oauth_refs(profile).to_vec();
                candidate
            })
            .collect();
        let state = Arc::new(policy::State {
            agent: agent.clone(),
            order: view.order.clone(),
            candidates,
        });
        warnings.extend(view.warnings.iter().map(warning_text));
        warnings.extend(sources.externals.unreadable.clone());
        warnings.extend(sources.benches.all().flat_map(Seen::warnings).cloned());
        warnings.extend(
            main_error
                .iter()
                .map(|error| format!("nothing is inherited from main: {error}")),
        );
        let owner_path = |agent: &AgentId| Ok((agent.clone(), self.store().owner_path(agent)?));
        let owner_paths = sources
            .all()
            .map(|store| owner_path(&store.agent))
            .collect::<Result<_>>()?;
        Ok(AgentSnapshot {
            view,
            config,
            state,
            warnings,
            main_error,
            sources,
            guests,
            owner_paths,
            kept: Kept::default(),
            held_at: AtomicU64::new(0),
            looked_in: AtomicU64::new(0),
            positions: OnceLock::new(),
        })
    }

    /// The stores with the logins of other programs laid over main's: they are main's profiles, and inherited by the
    /// same rule. What main itself stores under the same id is hidden while the other program's login is in use, so
    /// that no grant has two spenders.
    fn with_guests(&self, sources: &Sources) -> (Arc<AgentStore>, Option<Arc<AgentStore>>, Guests) {
        let Sources {
            own, main, externals, ..
        } = sources;
        let lay = |store: &Arc<AgentStore>| {
            let (entries, guests) = self.guests_of(store, externals);
            if entries.is_empty() {
                return (Arc::clone(store), guests);
            }
            let mut laid = AgentStore::clone(store);
            laid.profiles = laid.profiles.with(entries);
            (Arc::new(laid), guests)
        };
        match main {
            Some(main) => {
                let (main, guests) = lay(main);
                (Arc::clone(own), Some(main), guests)
            }
            None if own.agent.is_main() => {
                let (own, guests) = lay(own);
                (own, None, guests)
            }
            None => (Arc::clone(own), None, Guests::default()),
        }
    }

    fn candidate(
        &self,
        profile: &OwnedProfile,
        view: &View,
        (secrets, guests): (&SecretsConfig, &Guests),
        belief: Option<&Entry>,
        is_known: bool,
    ) -> policy::Candidate {
        let entry = &profile.entry;
        let billing = self.billing_of(&entry.id, &entry.credential);
        let restored = self.restored(profile, guests);
        let credential = restored.as_ref().unwrap_or(&entry.credential);
        let mut candidate =
            policy::Candidate::new(entry.id.clone(), profile.owner.clone(), credential, billing);
        candidate.inherited = profile.inherited;
        self.believe(
            &mut candidate,
            credential,
            (view.usage.get(&entry.id), is_known),
            belief,
        );
        candidate.references = self.references_of(&entry.credential, secrets);
        candidate
    }

    /// Adds what is known of the profile's use: our benches that hold for the credential as it is now, and the windows
    /// that other programs have written. With `is_known` false `auth-state.json` could not be read.
    fn believe(
        &self,
        candidate: &mut policy::Candidate,
        credential: &Credential,
        (usage, is_known): (Option<&Usage>, bool),
        belief: Option<&Entry>,
    ) {
        let usage = usage.cloned().unwrap_or_default();
        let mut lanes = Lanes::of_usage(&usage);
        if let Some(entry) = belief {
            let found = Some(&lanes).filter(|_| is_known);
            let (benches, read) = entry.in_force(&Identity::of(credential), found, self.now());
            candidate.benches = benches;
            lanes = read.foreign;
        }
        candidate.usage = lanes.told(usage.last_used);
    }

    /// What a login that another program has blanked is worth: its refresh record may still hold it. A record that
    /// cannot be read restores nothing.
    fn restored(&self, profile: &OwnedProfile, guests: &Guests) -> Option<Credential> {
        let oauth = profile.entry.credential.as_oauth()?;
        if oauth.tokens.refresh_token().is_some() {
            return None;
        }
        let target = guests.target_of(profile);
        let key = self.record_key(&target).ok()?;
        let grant = self.overlaid(&target, oauth, key.as_ref()).ok()?;
        Some(Credential::OAuth(with_generation(oauth, &grant.generation)))
    }
}

fn import_notes(report: &ImportReport) -> Vec<String> {
    let imported = report
        .imported
        .iter()
        .map(|(id, from)| format!("{id} was imported from {}", from.display()));
    let shadowed = report.shadowed.iter().map(|(id, from)| {
        format!(
            "{} holds another secret for {id}; the store's was kept",
            from.display()
        )
    });
    let ignored = report.ignored.iter().map(|(from, key, reason)| {
        format!(
            "{}: entry {key:?} is no credential ({})",
            from.display(),
            reason.as_str()
        )
    });
    let unreadable = report.unreadable.iter().map(ToString::to_string);
    imported
        .chain(shadowed)
        .chain(ignored)
        .chain(unreadable)
        .collect()
}

fn warning_text(warning: &Warning) -> String {
    match warning {
        Warning::Ignored { path, entries } => {
            let names: Vec<String> = entries
                .iter()
                .map(|entry| format!("{:?} ({})", entry.key, entry.reason.as_str()))
                .collect();
            format!(
                "{} holds entries that are no credentials; they are kept and not used: {}",
                path.display(),
                names.join(", ")
            )
        }
        Warning::StateUnreadable(unreadable) => unreadable.to_string(),
        Warning::SetAside { path, kept } => {
            let names: Vec<String> = kept.iter().map(|path| path.display().to_string()).collect();
            format!(
                "an earlier {} could not be read and was set aside as {}; repair it and move it back, or remove it",
                path.display(),
                names.join(", ")
            )
        }
        Warning::LooseMode { path, mode } => {
            format!(
                "others can read {} (mode {mode:04o}); fix it: chmod 600 {}",
                path.display(),
                path.display()
            )
        }
        other => format!("{other:?}"),
    }
}
