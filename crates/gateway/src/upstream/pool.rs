//! Upstream connections between two requests, by destination (origin and proxy).

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Body as _, Bytes, Frame, Incoming};
use tokensink_host::Destination;

use super::Endpoint;
use super::connection::{Connection, Driving};
use crate::time::{Instant, now};

/// Unused connections; the youngest is used first, so that the others grow old and are closed.
#[derive(Debug)]
pub(super) struct Pool {
    idle: Mutex<Idle>,
    longest: Duration,
    most: usize,
}

#[derive(Debug, Default)]
struct Idle {
    by_destination: HashMap<Destination, Vec<Kept>>,
    count: usize,
}

#[derive(Debug)]
struct Kept {
    connection: Connection,
    since: Instant,
}

impl Pool {
    pub(super) fn new(longest: Duration, most: usize) -> Self {
        Self {
            idle: Mutex::default(),
            longest,
            most,
        }
    }

    /// A connection that is ready for a request, if there is one.
    pub(super) async fn take(&self, to: &Destination, now: Instant) -> Option<Connection> {
        while let Some(mut connection) = self.take_youngest(to, now) {
            // One that was given back a moment ago may still be putting its last answer away.
            if connection.sender.is_ready() || connection.sender.ready().await.is_ok() {
                return Some(connection);
            }
        }
        None
    }

    fn take_youngest(&self, to: &Destination, now: Instant) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let Idle {
            by_destination,
            count,
        } = &mut *idle;
        let kept = by_destination.get_mut(to)?;
        while let Some(youngest) = kept.pop() {
            *count -= 1;
            if self.is_fit(&youngest, now) {
                return Some(youngest.connection);
            }
        }
        None
    }

    fn is_fit(&self, kept: &Kept, now: Instant) -> bool {
        !kept.connection.sender.is_closed() && now.duration_since(kept.since) < self.longest
    }

    fn put(&self, to: &Destination, connection: Connection, since: Instant) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.count >= self.most {
            return;
        }
        let kept = Kept { connection, since };
        match idle.by_destination.get_mut(to) {
            Some(others) => others.push(kept),
            None => {
                idle.by_destination.insert(to.clone(), vec![kept]);
            }
        }
        idle.count += 1;
    }

    /// Closes what was unused for long.
    pub(super) fn sweep(&self, now: Instant) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.by_destination.retain(|_, kept| {
            kept.retain(|kept| self.is_fit(kept, now));
            !kept.is_empty()
        });
        idle.count = idle.by_destination.values().map(Vec::len).sum();
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
        self.driving = None;
        if self.connection.sender.is_closed() {
            return;
        }
        if let Some(pool) = self.pool.upgrade() {
            pool.put(&self.to.destination, self.connection, now());
        }
    }
}
