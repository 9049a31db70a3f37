//! What a backend of the store must do, whatever it is made of. The files of this crate are one; a suite that every
//! backend has to pass is in `conformance`.

use std::sync::Arc;

use tokensink_types::record::Record;
use tokensink_types::{AgentId, Credential, ProfileId};

use crate::agent_store::{CasOutcome, Expected, FileStore};
use crate::error::StoreError;
use crate::journal::{Journal, RecordKey, Scan};
use crate::profiles::ProfileEntry;

/// Credentials by owner and profile.
pub trait CredentialStore: std::fmt::Debug + Send + Sync {
    /// All credentials of one owner, in a stable order.
    ///
    /// # Errors
    /// When the owner's store cannot be read.
    fn list(&self, owner: &AgentId) -> Result<Vec<ProfileEntry>, StoreError>;

    /// One credential, `None` when there is none.
    ///
    /// # Errors
    /// When the owner's store cannot be read.
    fn load(&self, owner: &AgentId, id: &ProfileId) -> Result<Option<Credential>, StoreError>;

    /// Writes `new` (`None` removes) if what is there meets `expected`; of several writers at once with the same
    /// expectation, at most one is `Done`. What is `Done` is durable and seen by every later read.
    ///
    /// # Errors
    /// When it was not written; what was there before is then still there.
    fn compare_and_set(
        &self,
        owner: &AgentId,
        id: &ProfileId,
        expected: Expected,
        new: Option<&Credential>,
    ) -> Result<CasOutcome, StoreError>;
}

/// Refresh records by owner store and profile. Writers of one record exclude each other by the grant's refresh lock.
pub trait RecordStore: std::fmt::Debug + Send + Sync {
    /// The newest record that was written in full, `None` when there is none.
    ///
    /// # Errors
    /// When it cannot be read; never with another record, and never with half of one.
    fn read(&self, key: &RecordKey) -> Result<Option<Arc<Record>>, StoreError>;

    /// Makes a record durable before it returns.
    ///
    /// # Errors
    /// When it is not durable; the record before it can then still be read.
    fn write(&self, record: &Record) -> Result<(), StoreError>;

    /// Removes a record with its secrets. Fine when there is none.
    ///
    /// # Errors
    /// When it may still be there.
    fn erase(&self, key: &RecordKey) -> Result<(), StoreError>;

    /// All records.
    ///
    /// # Errors
    /// When they cannot be listed.
    fn list(&self) -> Result<Scan, StoreError>;
}

impl CredentialStore for FileStore {
    fn list(&self, owner: &AgentId) -> Result<Vec<ProfileEntry>, StoreError> {
        Ok(FileStore::load(self, owner)?.profiles.entries().to_vec())
    }

    fn load(&self, owner: &AgentId, id: &ProfileId) -> Result<Option<Credential>, StoreError> {
        self.credential(owner, id)
    }

    fn compare_and_set(
        &self,
        owner: &AgentId,
        id: &ProfileId,
        expected: Expected,
        new: Option<&Credential>,
    ) -> Result<CasOutcome, StoreError> {
        FileStore::compare_and_set(self, owner, id, expected, new)
    }
}

impl RecordStore for Journal {
    fn read(&self, key: &RecordKey) -> Result<Option<Arc<Record>>, StoreError> {
        Journal::read(self, key)
    }

    fn write(&self, record: &Record) -> Result<(), StoreError> {
        Journal::write(self, record)
    }

    fn erase(&self, key: &RecordKey) -> Result<(), StoreError> {
        Journal::erase(self, key)
    }

    fn list(&self) -> Result<Scan, StoreError> {
        Journal::list(self)
    }
}
