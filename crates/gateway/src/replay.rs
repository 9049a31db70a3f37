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
        let room = units_within(&self.decoding, bytes, time).await;
        room.ok_or_else(|| {
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
        let mut received = Received::new(announced);
        // Of bodies that must be held, each gets all of its room at once, or many of which each had a part would wait for
        // each other.
        if let (Some(wait), Some(announced)) = (&mut wait, announced) {
            self.make_room(&mut received, announced, Some(wait)).await?;
        }
        let mut since = lately();
        while let Some(bytes) = self.pace.next(&mut body, since, received.length()).await? {
            let length = received.length() + bytes.len();
            if length <= self.per_body {
                let before = lately();
                self.make_room(&mut received, length, wait.as_mut()).await?;
                // Meanwhile nothing was taken of the client.
                since += lately().saturating_duration_since(before);
            }
            received.add(bytes);
            if length > self.per_body || received.reserved < length {
                return Ok(Held::streaming(received.into_bytes(), body));
            }
        }
        Ok(received.whole())
    }

    /// Reserves what a body of `length` needs besides what it has. Without `wait` only what is free; what is waited for is
    /// taken off it.
    async fn make_room(
        &self,
        received: &mut Received,
        length: usize,
        wait: Option<&mut Duration>,
    ) -> Result<(), Refusal> {
        let missing = length.saturating_sub(received.reserved);
        if missing == 0 {
            return Ok(());
        }
        let permit = match (self.reserve(missing), wait) {
            (None, Some(wait)) => Some(Box::pin(self.wait_for(missing, wait)).await?),
            (free, _) => free,
        };
        if let Some(permit) = permit {
            received.reserved += permit.num_permits() * UNIT;
            received.room.push(permit);
        }
        Ok(())
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

    async fn wait_for(&self, bytes: usize, wait: &mut Duration) -> Result<OwnedSemaphorePermit, Refusal> {
        let before = lately();
        let permit = units_within(&self.units, bytes, *wait).await;
        *wait = wait.saturating_sub(lately().saturating_duration_since(before));
        permit.ok_or_else(|| {
            let text = "the memory for request bodies is taken by other requests".to_owned();
            overloaded("no_memory", text)
        })
    }

    fn reserve(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let units = u32::try_from(bytes.div_ceil(UNIT)).ok()?;
        Arc::clone(&self.units).try_acquire_many_owned(units).ok()
    }
}

/// Room for `bytes`, if it comes free within `time`.
async fn units_within(units: &Arc<Semaphore>, bytes: usize, time: Duration) -> Option<OwnedSemaphorePermit> {
    let count = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX);
    within(time, Arc::clone(units).acquire_many_owned(count))
        .await?
        .ok()
}

/// What has come of a body.
struct Received {
    /// The first part, as it came: most bodies have no other, and it is not copied then.
    first: Bytes,
    /// All of it, once there is more.
    all: Vec<u8>,
    announced: Option<usize>,
    /// How many bytes there is room for. What one packet holds is not worth counting: the number of requests bounds it.
    reserved: usize,
    room: Vec<OwnedSemaphorePermit>,
}

impl Received {
    fn new(announced: Option<usize>) -> Self {
        Self {
            first: Bytes::new(),
            all: Vec::new(),
            announced,
            reserved: UNIT,
            room: Vec::new(),
        }
    }

    fn length(&self) -> usize {
        self.first.len() + self.all.len()
    }

    fn add(&mut self, bytes: Bytes) {
        if self.length() == 0 {
            self.first = bytes;
            return;
        }
        if self.all.is_empty() {
            let length = self.length() + bytes.len();
            self.all.reserve(self.announced.unwrap_or(length).max(length));
            self.all.extend_from_slice(&std::mem::take(&mut self.first));
        }
        self.all.extend_from_slice(&bytes);
    }

    fn into_bytes(self) -> Bytes {
        if self.all.is_empty() {
            self.first
        } else {
            Bytes::from(self.all)
        }
    }

    fn whole(mut self) -> Held {
        let room = std::mem::take(&mut self.room);
        Held {
            bytes: self.into_bytes(),
            rest: Rest::Nothing,
            _room: room,
        }
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

    /// The next part of a body of which `bytes` came since `began`; `None` at its end.
    async fn next(
        &self,
        body: &mut Incoming,
        began: Instant,
        bytes: usize,
    ) -> Result<Option<Bytes>, Refusal> {
        loop {
            let left = self.end(began, bytes).saturating_duration_since(lately());
            let frame = match within(left.min(self.idle), body.frame()).await {
                None if left < self.idle => return Err(self.too_slow()),
                None => return Err(self.silent()),
                Some(None) => return Ok(None),
                Some(Some(Err(error))) => return Err(broken_off(&error)),
                Some(Some(Ok(frame))) => frame,
            };
            // Trailers of a request mean nothing to any of the APIs, and may be dropped (RFC 9110 section 6.5.1).
            if let Ok(bytes) = frame.into_data() {
                return Ok(Some(bytes));
            }
        }
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
