//! The memory that request bodies take: those that are held so that they can be sent again, within a bound for each and
//! one for all, and those that are being decompressed.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Bytes, Incoming};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::bounds::Bounds;
use crate::request::errors::Refusal;
use crate::slots::overloaded;
use crate::stream::Upload;
use crate::time::{Instant, lately, within};

/// How much of the memory is reserved at a time.
const UNIT: usize = 4096;

/// The memory for bodies that are held.
#[derive(Debug)]
pub(crate) struct Memory {
    units: Arc<Semaphore>,
    per_body: usize,
    decoding: Arc<Semaphore>,
    pace: Pace,
}

impl Memory {
    pub(crate) fn new(bounds: &Bounds) -> Self {
        Self {
            units: Arc::new(Semaphore::new(bounds.replay_total / UNIT)),
            per_body: bounds.replay_body,
            decoding: Arc::new(Semaphore::new(bounds.decode_total / UNIT)),
            pace: Pace::of(bounds),
        }
    }

    /// Room for decompressing a body that may take `bytes`; waits for it at most `time`.
    ///
    /// # Errors
    /// 503 when none came free in time.
    pub(crate) async fn to_decode(
        &self,
        bytes: usize,
        time: Duration,
    ) -> Result<OwnedSemaphorePermit, Refusal> {
        let units = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX);
        let room = within(time, Arc::clone(&self.decoding).acquire_many_owned(units)).await;
        room.and_then(Result::ok).ok_or_else(|| {
            let text = "the memory for decompressing request bodies is taken by other requests".to_owned();
            overloaded("no_memory", text).with_fix("send the body uncompressed")
        })
    }

    /// Reads a body for as long as there is room for it. One that must be read to be served waits for room, all in all at
    /// most `wait`; without `wait`, what finds no room streams.
    ///
    /// # Errors
    /// When the client breaks off or is too slow, and 503 when no room came free in time.
    pub(crate) async fn read(&self, mut body: Incoming, mut wait: Option<Duration>) -> Result<Held, Refusal> {
        if body.is_end_stream() {
            return Ok(Held::default());
        }
        let announced = body.size_hint().exact().and_then(|n| usize::try_from(n).ok());
        if announced.is_some_and(|n| n > self.per_body) {
            return Ok(Held::streaming(Bytes::new(), body));
        }
        let mut room = Vec::new();
        // What one packet holds is not worth counting: the number of requests bounds it.
        let mut reserved = UNIT;
        // Of bodies that must be held, each gets all of its room at once, or many of which each had a part would wait for
        // each other.
        if let (Some(wait), Some(announced)) = (&mut wait, announced)
            && announced > reserved
        {
            let permit = self.room(announced - reserved, wait).await?;
            reserved += permit.num_permits() * UNIT;
            room.push(permit);
        }
        let mut began = lately();
        let mut first = Bytes::new();
        let mut all = Vec::new();
        loop {
            let due = self.pace.end(began, first.len() + all.len());
            let left = due.saturating_duration_since(lately());
            let frame = match within(left.min(self.pace.idle), body.frame()).await {
                None if left < self.pace.idle => return Err(self.pace.too_slow()),
                None => return Err(self.pace.silent()),
                Some(None) => break,
                Some(Some(Err(error))) => return Err(broken_off(&error)),
                Some(Some(Ok(frame))) => frame,
            };
            // Trailers of a request mean nothing to any of the APIs, and may be dropped (RFC 9110 section 6.5.1).
            let Ok(bytes) = frame.into_data() else { continue };
            let length = first.len() + all.len() + bytes.len();
            if reserved < length && length <= self.per_body {
                let missing = length - reserved;
                let permit = match &mut wait {
                    Some(wait) => {
                        let before = lately();
                        let permit = self.room(missing, wait).await?;
                        // Meanwhile nothing was taken of the client.
                        began += lately().saturating_duration_since(before);
                        Some(permit)
                    }
                    None => self.reserve(missing),
                };
                if let Some(permit) = permit {
                    reserved += permit.num_permits() * UNIT;
                    room.push(permit);
                }
            }
            if first.is_empty() && all.is_empty() {
                first = bytes;
            } else {
                if all.is_empty() {
                    all.reserve(announced.unwrap_or(length).max(length));
                    all.extend_from_slice(&first);
                    first = Bytes::new();
                }
                all.extend_from_slice(&bytes);
            }
            if length > self.per_body || reserved < length {
                let read = if all.is_empty() { first } else { Bytes::from(all) };
                return Ok(Held::streaming(read, body));
            }
        }
        Ok(Held {
            bytes: if all.is_empty() { first } else { Bytes::from(all) },
            rest: Rest::Nothing,
            _room: room,
        })
    }

    /// Why a body that has to be read was not held: it waited for room, so it is too large.
    pub(crate) fn refusal(&self) -> Refusal {
        let text = format!(
            "the body has more than {} bytes, which is as much as is read",
            self.per_body
        );
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", text)
            .with_fix("send less, or to /<provider>/… where bodies of any size pass")
    }

    /// Room for `bytes`; what is waited for it is taken off `wait`.
    async fn room(&self, bytes: usize, wait: &mut Duration) -> Result<OwnedSemaphorePermit, Refusal> {
        match self.reserve(bytes) {
            Some(permit) => Ok(permit),
            None => Box::pin(self.wait_for(bytes, wait)).await,
        }
    }

    async fn wait_for(&self, bytes: usize, wait: &mut Duration) -> Result<OwnedSemaphorePermit, Refusal> {
        let units = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX);
        let before = lately();
        let permit = within(*wait, Arc::clone(&self.units).acquire_many_owned(units)).await;
        *wait = wait.saturating_sub(lately().saturating_duration_since(before));
        permit.and_then(Result::ok).ok_or_else(|| {
            let text = "the memory for request bodies is taken by other requests".to_owned();
            overloaded("no_memory", text)
        })
    }

    fn reserve(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let units = u32::try_from(bytes.div_ceil(UNIT)).ok()?;
        Arc::clone(&self.units).try_acquire_many_owned(units).ok()
    }
}

/// How slowly a body that is held may come.
#[derive(Debug, Clone, Copy)]
struct Pace {
    idle: Duration,
    grace: Duration,
    rate: usize,
}

impl Pace {
    fn of(bounds: &Bounds) -> Self {
        Self {
            idle: bounds.upload_idle,
            grace: bounds.upload_grace,
            rate: bounds.upload_rate.max(1),
        }
    }

    /// Until when more must come of a body of which `bytes` came since `began`.
    fn end(&self, began: Instant, bytes: usize) -> Instant {
        let millis = bytes.saturating_mul(1000) / self.rate;
        began + self.grace + Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
    }

    fn silent(&self) -> Refusal {
        slow(format!("nothing came of the request's body for {:?}", self.idle))
    }

    fn too_slow(&self) -> Refusal {
        slow(format!(
            "the request's body came too slowly: it has {:?}, and a second more for every {} bytes",
            self.grace, self.rate
        ))
    }
}

fn slow(text: String) -> Refusal {
    Refusal::new(StatusCode::REQUEST_TIMEOUT, "slow_request", text)
}

/// A request's body, as far as it was read.
#[derive(Debug, Default)]
pub(crate) struct Held {
    bytes: Bytes,
    rest: Rest,
    /// What the bytes take of the memory.
    _room: Vec<OwnedSemaphorePermit>,
}

/// What follows the bytes that are held.
#[derive(Debug, Default)]
enum Rest {
    /// Nothing: the body is whole.
    #[default]
    Nothing,
    /// What was not read for want of room.
    Coming(Incoming),
    /// That went out.
    Gone,
}

impl Held {
    fn streaming(bytes: Bytes, rest: Incoming) -> Self {
        Self {
            bytes,
            rest: Rest::Coming(rest),
            // What was read goes out at once and is not kept.
            _room: Vec::new(),
        }
    }

    /// Can it be sent more than once?
    pub(crate) fn is_whole(&self) -> bool {
        matches!(self.rest, Rest::Nothing)
    }

    /// All of it, if it is held.
    pub(crate) fn whole(&self) -> Option<Bytes> {
        self.is_whole().then(|| self.bytes.clone())
    }

    /// Changes the bytes of a body that is held.
    pub(crate) fn replace(&mut self, change: impl FnOnce(&[u8]) -> Bytes) {
        if self.is_whole() {
            self.bytes = change(&self.bytes);
        }
    }

    /// The body for one attempt; `None` when it could be had only once and was.
    pub(crate) fn upload(&mut self, idle: Duration) -> Option<Upload> {
        if self.is_whole() {
            return Some(Upload::whole(self.bytes.clone()));
        }
        match std::mem::replace(&mut self.rest, Rest::Gone) {
            Rest::Coming(rest) => Some(Upload::streamed(std::mem::take(&mut self.bytes), rest, idle)),
            Rest::Nothing | Rest::Gone => None,
        }
    }
}

fn broken_off(error: &hyper::Error) -> Refusal {
    Refusal::new(
        StatusCode::BAD_REQUEST,
        "broken_request",
        format!("the request's body could not be read: {error}"),
    )
}
