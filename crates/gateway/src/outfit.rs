//! What is made once of a credential and used by all requests that are sent with it.
//!
//! A credential that changes is another value, which gets an outfit of its own; nothing here has to be thrown away in
//! time.

use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use foldhash::HashMap;
use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::Histogram;
use tokensink_sink::{Lease, ProfileId, ProviderId, Spendable};

use crate::metrics::Metrics;
use crate::relay::internal;
use crate::request::errors::Refusal;
use crate::request::headers::lease_headers;
use crate::request::route::upstream_uri;
use crate::slots::{Profile, Slots};
use crate::upstream::{Endpoint, Upstream};

/// Most outfits that are kept. A host has a few dozen credentials; what is thrown away is made again.
const KEPT_MAX: usize = 256;

/// All outfits, by where their credential is in memory.
#[derive(Debug, Default)]
pub(crate) struct Outfits(Mutex<HashMap<usize, Known>>);

#[derive(Debug)]
struct Known {
    /// For as long as it is there, nothing else is in that place.
    given: Weak<Spendable>,
    outfit: Arc<Outfit>,
}

impl Outfits {
    /// The outfit of what a lease hands out.
    pub(crate) fn of(&self, lease: &Lease, slots: &Slots) -> Arc<Outfit> {
        let place = Arc::as_ptr(&lease.given) as usize;
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = all.get(&place) {
            return Arc::clone(&known.outfit);
        }
        // With a credential that nobody has any more go the headers that carried it.
        all.retain(|_, known| known.given.strong_count() > 0);
        if all.len() >= KEPT_MAX {
            all.clear();
        }
        let outfit = Arc::new(Outfit::of(lease, slots));
        let known = Known {
            given: Arc::downgrade(&lease.given),
            outfit: Arc::clone(&outfit),
        };
        all.insert(place, known);
        outfit
    }
}

/// What goes with one credential.
#[derive(Debug)]
pub(crate) struct Outfit {
    /// The books of its profile.
    pub(crate) profile: Arc<Profile>,
    /// The id of its profile, for the logs.
    pub(crate) id: ProfileId,
    /// The same as the value of a header.
    pub(crate) name: HeaderValue,
    headers: OnceLock<Vec<(HeaderName, HeaderValue)>>,
    endpoint: OnceLock<Arc<Endpoint>>,
    /// The last path that was asked for, and the one that was asked of the provider.
    path: Mutex<Option<(String, PathAndQuery)>>,
    served: OnceLock<Counter>,
    head: OnceLock<Histogram>,
}

impl Outfit {
    fn of(lease: &Lease, slots: &Slots) -> Self {
        let name = HeaderValue::try_from(lease.profile.to_string());
        Self {
            profile: slots.profile(lease),
            id: lease.profile.clone(),
            name: name.unwrap_or(HeaderValue::from_static("-")),
            headers: OnceLock::new(),
            endpoint: OnceLock::new(),
            path: Mutex::default(),
            served: OnceLock::new(),
            head: OnceLock::new(),
        }
    }

    /// The headers that carry it.
    ///
    /// # Errors
    /// As for [`lease_headers`].
    pub(crate) fn headers(&self, lease: &Lease) -> Result<&[(HeaderName, HeaderValue)], Refusal> {
        if let Some(known) = self.headers.get() {
            return Ok(known);
        }
        let headers = lease_headers(&lease.headers)?;
        Ok(self.headers.get_or_init(|| headers))
    }

    /// Where it is spent.
    ///
    /// # Errors
    /// As for [`Upstream::endpoint`].
    pub(crate) fn endpoint(&self, upstream: &Upstream, base_url: &str) -> Result<Arc<Endpoint>, String> {
        if let Some(known) = self.endpoint.get() {
            return Ok(Arc::clone(known));
        }
        let endpoint = upstream.endpoint(base_url)?;
        Ok(Arc::clone(self.endpoint.get_or_init(|| endpoint)))
    }

    /// The path that is asked of the provider.
    ///
    /// # Errors
    /// As for [`upstream_uri`].
    pub(crate) fn path(&self, base_url: &str, path_and_query: &str) -> Result<PathAndQuery, Refusal> {
        let mut last = self.path.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((asked, path)) = &*last
            && asked == path_and_query
        {
            return Ok(path.clone());
        }
        let uri = upstream_uri(base_url, path_and_query)?;
        let path = uri.path_and_query().cloned().ok_or_else(|| internal("no path"))?;
        *last = Some((path_and_query.to_owned(), path.clone()));
        Ok(path)
    }

    /// One more request was served.
    pub(crate) fn served(&self, metrics: &Metrics, provider: &ProviderId) {
        let counter = || metrics.served(provider.as_str(), &self.id);
        self.served.get_or_init(counter).inc();
    }

    /// The head of an answer went to the client.
    pub(crate) fn head(&self, metrics: &Metrics, provider: &ProviderId, after: Duration) {
        let histogram = || metrics.heads(provider.as_str());
        self.head.get_or_init(histogram).observe(after.as_secs_f64());
    }
}
