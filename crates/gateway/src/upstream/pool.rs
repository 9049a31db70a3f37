//! Upstream connections between two requests, by destination (origin and proxy).

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Body as _, Bytes, Frame, Incoming};
use tokensink_host::Destination;

use super::Endpoint;
use super::connection::{Connection, Driving};
use crate::time::{Instant, lately, within};

/// How long a connection may take to become ready for its next request: its own task may have to put an answer away
/// first. It costs less than a new connection with its handshakes would.
const SETTLING: Duration = Duration::from_millis(20);

/// Unused connections; the youngest is used first, so that the others grow old and are closed.
#[derive(Debug)]
pub(super) struct Pool {
    places: Mutex<HashMap<Destination, Arc<Place>>>,
    count: AtomicUsize,
    longest: Duration,
    most: usize,
}

/// The unused connections to one destination.
#[derive(Debug, Default)]
pub(super) struct Place(Mutex<Vec<Kept>>);

#[derive(Debug)]
struct Kept {
    connection: Connection,
    since: Instant,
}

impl Place {
    fn kept(&self) -> MutexGuard<'_, Vec<Kept>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pool {
    pub(super) fn new(longest: Duration, most: usize) -> Self {
        Self {
            places: Mutex::default(),
            count: AtomicUsize::new(0),
            longest,
            most,
        }
    }

    /// Where the connections to a destination are kept.
    pub(super) fn place(&self, to: &Destination) -> Arc<Place> {
        Arc::clone(self.places().entry(to.clone()).or_default())
    }

    fn places(&self) -> MutexGuard<'_, HashMap<Destination, Arc<Place>>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection that is ready for a request, if there is one.
    pub(super) async fn take(&self, from: &Place, now: Instant) -> Option<Connection> {
        let mut patience = SETTLING;
        while let Some(mut connection) = self.take_youngest(from, now) {
            if connection.sender.is_ready() {
                return Some(connection);
            }
            // One that was given back a moment ago may still be putting its last answer away. Another may never become
            // ready, since the server has answered and takes no more of the request: it closes as it is dropped.
            match Box::pin(within(patience, connection.sender.ready())).await {
                Some(Ok(())) => return Some(connection),
                // It has ended.
                Some(Err(_)) => {}
                // One request waits for one of them, however many there are.
                None => patience = Duration::ZERO,
            }
        }
        None
    }

    fn take_youngest(&self, from: &Place, now: Instant) -> Option<Connection> {
        let mut kept = from.kept();
        while let Some(youngest) = kept.pop() {
            self.count.fetch_sub(1, Ordering::Relaxed);
            if self.is_fit(&youngest, now) {
                return Some(youngest.connection);
            }
        }
        None
    }

    fn is_fit(&self, kept: &Kept, now: Instant) -> bool {
        !kept.connection.sender.is_closed() && now.duration_since(kept.since) < self.longest
    }

    fn put(&self, to: &Place, connection: Connection, since: Instant) {
        let mut kept = to.kept();
        if self.count.fetch_add(1, Ordering::Relaxed) >= self.most {
            self.count.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        kept.push(Kept { connection, since });
    }

    /// Closes what was unused for long.
    pub(super) fn sweep(&self, now: Instant) {
        let places: Vec<Arc<Place>> = self.places().values().map(Arc::clone).collect();
        for place in places {
            let mut kept = place.kept();
            let before = kept.len();
            kept.retain(|kept| self.is_fit(kept, now));
            self.count.fetch_sub(before - kept.len(), Ordering::Relaxed);
        }
    }
}

/// A connection whose answer is being read. Given back when the answer is complete; dropped earlier, it closes.
#[derive(Debug)]
pub(crate) struct Lending {
    pool: Weak<Pool>,
    to: Arc<Endpoint>,
    connection: Connection,
    /// None while the connection's own task drives: a part of the request is still to go up.
    driving: Option<Driving>,
}

impl Lending {
    pub(super) fn new(
        pool: &Arc<Pool>,
        connection: Connection,
        driving: Option<Driving>,
        to: &Arc<Endpoint>,
    ) -> Self {
        Self {
            pool: Arc::downgrade(pool),
            to: Arc::clone(to),
            connection,
            driving,
        }
    }

    /// The next frame of the answer, whose body this is.
    pub(crate) fn poll_frame(
        &self,
        body: &mut Incoming,
        context: &mut Context<'_>,
    ) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        match &self.driving {
            Some(driving) => driving.poll(context, |context| Pin::new(&mut *body).poll_frame(context)),
            None => Pin::new(body).poll_frame(context),
        }
    }

    /// The answer was read to its end: the connection may take the next request.
    pub(crate) fn give_back(mut self) {
        // The connection has read and written what it could once more when this is dropped.
        let was_driven = self.driving.take().is_some();
        let sender = &self.connection.sender;
        // What is not ready then has a part of its request left that the server does not take: it may never take it.
        if sender.is_closed() || was_driven && !sender.is_ready() {
            return;
        }
        if let Some(pool) = self.pool.upgrade() {
            pool.put(&self.to.place, self.connection, lately());
        }
    }
}
