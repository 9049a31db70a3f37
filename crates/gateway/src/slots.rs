//! Room: for requests altogether, for those of one account, and for leases.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::StatusCode;
use http::header::{HeaderValue, RETRY_AFTER};
use tokensink_sink::{AgentId, Lease, ProfileId};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::bounds::Bounds;
use crate::request::errors::Refusal;
use crate::time::{Instant, within};

/// How often a success of a profile with one model is reported at most: fine enough for limits that are read off the
/// answers, and rare enough to cost nothing.
const SUCCESS_EVERY: Duration = Duration::from_secs(1);

/// The code of the refusal where an account has no room.
pub(crate) const PROFILE_BUSY: &str = "profile_busy";

/// The room that there is.
#[derive(Debug)]
pub(crate) struct Slots {
    requests: Arc<Semaphore>,
    leases: Arc<Semaphore>,
    of_profiles: Mutex<HashMap<(AgentId, ProfileId), Arc<Profile>>>,
    bounds: Bounds,
}

/// One profile's room, and when its last success was reported.
#[derive(Debug)]
pub(crate) struct Profile {
    room: Arc<Semaphore>,
    told: Mutex<Option<(Instant, Option<String>)>>,
}

impl Profile {
    /// Is a success with this model worth a report? The second within a second says nothing new, unless something else
    /// happened in between.
    pub(crate) fn is_news(&self, model: Option<&str>, at: Instant) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((last, known)) = &*told
            && known.as_deref() == model
            && at.duration_since(*last) < SUCCESS_EVERY
        {
            return false;
        }
        *told = Some((at, model.map(str::to_owned)));
        true
    }

    /// Something else happened: the next success is news.
    pub(crate) fn failed(&self) {
        *self.told.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Slots {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self {
            requests: Arc::new(Semaphore::new(bounds.requests)),
            leases: Arc::new(Semaphore::new(bounds.leases)),
            of_profiles: Mutex::default(),
            bounds,
        }
    }

    /// Room for one request.
    ///
    /// # Errors
    /// 503 when none came free in time.
    pub(crate) async fn request(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        let full = || {
            format!(
                "{} requests are under way and none has ended",
                self.bounds.requests
            )
        };
        self.room(&self.requests, full).await
    }

    /// Room for one lease that may have to be waited for. It is apart from that of requests, which may be taken for as
    /// long as answers stream.
    ///
    /// # Errors
    /// 503 when none came free in time.
    pub(crate) async fn lease(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        let full = || {
            format!(
                "{} leases are being waited for and none has come",
                self.bounds.leases
            )
        };
        self.room(&self.leases, full).await
    }

    async fn room(
        &self,
        of: &Arc<Semaphore>,
        full: impl FnOnce() -> String,
    ) -> Result<OwnedSemaphorePermit, Refusal> {
        wait_for(of, self.bounds.queue_time)
            .await
            .ok_or_else(|| overloaded("too_many_requests", full()))
    }

    /// The profile of a lease.
    pub(crate) fn profile(&self, lease: &Lease) -> Arc<Profile> {
        let mut known = self.of_profiles.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (lease.owner.clone(), lease.profile.clone());
        let new = || {
            Arc::new(Profile {
                room: Arc::new(Semaphore::new(self.bounds.requests_per_profile)),
                told: Mutex::default(),
            })
        };
        Arc::clone(known.entry(key).or_insert_with(new))
    }

    /// Room for one request of a profile.
    ///
    /// # Errors
    /// 503 when none came free in time.
    pub(crate) async fn of_profile(
        &self,
        profile: &Profile,
        lease: &Lease,
    ) -> Result<OwnedSemaphorePermit, Refusal> {
        let full = || {
            let most = self.bounds.requests_per_profile;
            format!(
                "{most} requests of {} are under way and none has ended",
                lease.profile
            )
        };
        wait_for(&profile.room, self.bounds.queue_time)
            .await
            .ok_or_else(|| overloaded(PROFILE_BUSY, full()))
    }
}

async fn wait_for(room: &Arc<Semaphore>, time: Duration) -> Option<OwnedSemaphorePermit> {
    if let Ok(permit) = Arc::clone(room).try_acquire_owned() {
        return Some(permit);
    }
    let waiting = within(time, Arc::clone(room).acquire_owned());
    Box::pin(waiting).await?.ok()
}

/// 503, with a second's wait: room comes free at any time.
pub(crate) fn overloaded(code: &'static str, message: String) -> Refusal {
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, code, message)
        .with_header(RETRY_AFTER, HeaderValue::from_static("1"))
}
