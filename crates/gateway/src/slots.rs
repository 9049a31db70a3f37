//! Room: for requests altogether, and for those of one account.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::StatusCode;
use http::header::{HeaderValue, RETRY_AFTER};
use tokensink_sink::{AgentId, Lease, ProfileId};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::bounds::Bounds;
use crate::request::errors::Refusal;
use crate::time::within;

/// The room that there is.
#[derive(Debug)]
pub(crate) struct Slots {
    requests: Arc<Semaphore>,
    of_profiles: Mutex<HashMap<(AgentId, ProfileId), Arc<Semaphore>>>,
    bounds: Bounds,
}

impl Slots {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self {
            requests: Arc::new(Semaphore::new(bounds.requests)),
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
        wait_for(&self.requests, self.bounds.queue_time)
            .await
            .ok_or_else(|| overloaded("too_many_requests", full()))
    }

    /// Room for one request of this lease's profile.
    ///
    /// # Errors
    /// 503 when none came free in time.
    pub(crate) async fn of_profile(&self, lease: &Lease) -> Result<OwnedSemaphorePermit, Refusal> {
        let room = {
            let mut known = self.of_profiles.lock().unwrap_or_else(PoisonError::into_inner);
            let key = (lease.owner.clone(), lease.profile.clone());
            let most = self.bounds.requests_per_profile;
            Arc::clone(known.entry(key).or_insert_with(|| Arc::new(Semaphore::new(most))))
        };
        let full = || {
            let most = self.bounds.requests_per_profile;
            format!(
                "{most} requests of {} are under way and none has ended",
                lease.profile
            )
        };
        wait_for(&room, self.bounds.queue_time)
            .await
            .ok_or_else(|| overloaded("profile_busy", full()))
    }
}

async fn wait_for(room: &Arc<Semaphore>, time: Duration) -> Option<OwnedSemaphorePermit> {
    if let Ok(permit) = Arc::clone(room).try_acquire_owned() {
        return Some(permit);
    }
    within(time, Arc::clone(room).acquire_owned()).await?.ok()
}

/// 503, with a second's wait: room comes free at any time.
pub(crate) fn overloaded(code: &'static str, message: String) -> Refusal {
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, code, message)
        .with_header(RETRY_AFTER, HeaderValue::from_static("1"))
}
