//! Bodies on their way: the client's request up ([`Upload`]), the answer down ([`Answer`]).
//!
//! Bytes are neither held nor looked at. What has arrived goes out at once, with one liberty: small frames that are
//! ready together leave in one write. Whether more is ready is not guessed by waiting: the upstream's connection is
//! asked for the next frame.
//!
//! An answer that the upstream cut ends in an error, which makes the server cut its connection too: a chunked body
//! stays without its last chunk, and one with a length stays short. A body that is dropped before its end closes the
//! upstream connection, and with it the request. Memory is bounded by back-pressure: nothing is read from one side
//! that the other has not room for.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use http::HeaderMap;
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};

use crate::bounds::GATHER_BYTES;
use crate::client::Turn;
use crate::time::{Alarm, Instant, lately, within};
use crate::upstream::Lending;

/// A limit on silence: it counts from the last byte.
#[derive(Debug)]
pub(crate) struct Silence {
    limit: Duration,
    last: Instant,
    alarm: Alarm,
}

impl Silence {
    pub(crate) fn new(limit: Duration) -> Self {
        Self {
            limit,
            last: lately(),
            alarm: Alarm::default(),
        }
    }

    /// Something came.
    fn broken(&mut self) {
        self.last = lately();
    }

    /// Ready when it has lasted too long.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.alarm.poll(self.last + self.limit, context)
    }
}

/// What went wrong on the client's side of an upload, for whoever sees only that the upload ended.
#[derive(Debug, Clone, Default)]
pub(crate) struct Trouble(Option<Arc<Mutex<Option<String>>>>);

impl Trouble {
    pub(crate) fn take(&self) -> Option<String> {
        let told = self.0.as_ref()?;
        told.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The body of a request to the upstream.
#[derive(Debug)]
pub(crate) enum Upload {
    /// All of it.
    Whole(Option<Bytes>),
    /// What was read so far, and the rest as the client sends it.
    Streamed {
        first: Option<Bytes>,
        rest: Box<Incoming>,
        silence: Silence,
        trouble: Trouble,
    },
}

impl Upload {
    pub(crate) fn whole(bytes: Bytes) -> Self {
        Self::Whole((!bytes.is_empty()).then_some(bytes))
    }

    pub(crate) fn streamed(first: Bytes, rest: Incoming, idle: Duration) -> Self {
        Self::Streamed {
            first: (!first.is_empty()).then_some(first),
            rest: Box::new(rest),
            silence: Silence::new(idle),
            trouble: Trouble(Some(Arc::default())),
        }
    }

    /// Is there nothing to come from the client?
    pub(crate) fn is_whole(&self) -> bool {
        matches!(self, Self::Whole(_))
    }

    /// Where the client's trouble will be told.
    pub(crate) fn trouble(&self) -> Trouble {
        match self {
            Self::Whole(_) => Trouble(None),
            Self::Streamed { trouble, .. } => trouble.clone(),
        }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Streamed {
                first,
                rest,
                silence,
                trouble,
            } => {
                if let Some(first) = first.take() {
                    return Poll::Ready(Some(Ok(Frame::data(first))));
                }
                let told = |text: String| {
                    if let Some(place) = &trouble.0 {
                        *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(text.clone());
                    }
                    Poll::Ready(Some(Err(io::Error::other(text))))
                };
                match Pin::new(&mut **rest).poll_frame(context) {
                    Poll::Ready(Some(Ok(frame))) => {
                        silence.broken();
                        Poll::Ready(Some(Ok(frame)))
                    }
                    Poll::Ready(Some(Err(error))) => {
                        told(format!("the client's request ended early: {error}"))
                    }
                    Poll::Ready(None) => Poll::Ready(None),
                    Poll::Pending if silence.poll(context).is_ready() => told(format!(
                        "the client sent nothing of its request for {:?}",
                        silence.limit
                    )),
                    Poll::Pending => Poll::Pending,
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_none(),
            Self::Streamed { first, rest, .. } => first.is_none() && rest.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, length)),
            Self::Streamed { first, rest, .. } => longer(&rest.size_hint(), first.as_ref().map_or(0, length)),
        }
    }
}

fn length(bytes: &Bytes) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

fn longer(hint: &SizeHint, by: u64) -> SizeHint {
    let mut longer = SizeHint::new();
    if let Some(upper) = hint.upper() {
        longer.set_upper(upper.saturating_add(by));
    }
    longer.set_lower(hint.lower().saturating_add(by));
    longer
}

/// The body of an answer to the client.
#[derive(Debug)]
pub(crate) struct Answer {
    kind: Kind,
    /// Ends the request for the connection's watch when the body is dropped.
    turn: Option<Turn>,
    /// Held until the answer is over: room that the request takes.
    hold: Option<Box<dyn Hold>>,
}

/// Something that is held for as long as an answer lasts, and is told how it goes.
pub(crate) trait Hold: Send + std::fmt::Debug {
    /// Bytes of the answer arrived.
    fn saw(&mut self, bytes: &[u8]);
    /// The answer came to its end, or was cut by the upstream.
    fn ended(&mut self, how: Ended);
}

/// How an answer ended, if the client did not leave before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Whole.
    Complete,
    /// The upstream cut it.
    CutOff,
    /// The upstream was silent for too long.
    TimedOut,
}

#[derive(Debug)]
enum Kind {
    Whole(Option<Bytes>),
    Relayed(Box<Relayed>),
}

/// An answer as the upstream sends it.
#[derive(Debug)]
struct Relayed {
    upstream: Incoming,
    lending: Option<Lending>,
    silence: Silence,
    /// Frames that arrived and did not leave yet.
    gathered: Vec<u8>,
    /// What comes after the gathered bytes.
    next: Next,
}

#[derive(Debug)]
enum Next {
    More,
    /// A frame that leaves as it is.
    Frame(Bytes),
    Trailers(HeaderMap),
    /// The upstream failed. The server is given one turn to write what it has before it hears of that.
    Failed {
        error: io::Error,
        is_flushed: bool,
    },
    End,
}

impl Answer {
    /// An answer of our own, or one that was read whole.
    pub(crate) fn whole(bytes: Bytes) -> Self {
        Self {
            kind: Kind::Whole((!bytes.is_empty()).then_some(bytes)),
            turn: None,
            hold: None,
        }
    }

    /// The upstream's answer as it comes.
    pub(crate) fn relayed(upstream: Incoming, lending: Lending, idle: Duration) -> Self {
        let mut relayed = Relayed {
            upstream,
            lending: Some(lending),
            silence: Silence::new(idle),
            gathered: Vec::new(),
            next: Next::More,
        };
        if relayed.upstream.is_end_stream() {
            relayed.complete();
        }
        Self::of(relayed)
    }

    /// The rest of an answer of which the beginning was read.
    pub(crate) fn read_in_part(read: Peeked, idle: Duration) -> Self {
        let Peeked { bytes, rest } = read;
        match rest {
            PeekedRest::Nothing => Self::whole(bytes),
            PeekedRest::Coming(upstream, lending) => Self::of(Relayed {
                upstream,
                lending: Some(lending),
                silence: Silence::new(idle),
                gathered: bytes.to_vec(),
                next: Next::More,
            }),
            PeekedRest::Cut(upstream, error) => Self::of(Relayed {
                upstream,
                lending: None,
                silence: Silence::new(idle),
                gathered: bytes.to_vec(),
                next: Next::Failed {
                    error,
                    is_flushed: false,
                },
            }),
        }
    }

    fn of(relayed: Relayed) -> Self {
        Self {
            kind: Kind::Relayed(Box::new(relayed)),
            turn: None,
            hold: None,
        }
    }

    pub(crate) fn in_turn(mut self, turn: Turn) -> Self {
        self.turn = Some(turn);
        self
    }

    /// Puts another hold around the one that there is.
    pub(crate) fn held_by(mut self, around: impl FnOnce(Option<Box<dyn Hold>>) -> Box<dyn Hold>) -> Self {
        let inner = self.hold.take();
        self.holding(around(inner))
    }

    /// Keeps `hold` until the answer is over and tells it how that was.
    pub(crate) fn holding(mut self, mut hold: Box<dyn Hold>) -> Self {
        if self.is_end_stream() {
            hold.ended(Ended::Complete);
        }
        self.hold = Some(hold);
        self
    }
}

/// An answer of which the beginning was read, to see what it means.
#[derive(Debug)]
pub(crate) struct Peeked {
    /// What was read.
    pub(crate) bytes: Bytes,
    rest: PeekedRest,
}

#[derive(Debug)]
enum PeekedRest {
    Nothing,
    Coming(Incoming, Lending),
    Cut(Incoming, io::Error),
}

impl Peeked {
    /// Reads an answer to its end, or as far as `most` bytes and `time` allow.
    pub(crate) async fn read(mut upstream: Incoming, lending: Lending, most: usize, time: Duration) -> Self {
        let mut bytes = Vec::new();
        let reading = async {
            while bytes.len() < most {
                match poll_fn(|context| lending.poll_frame(&mut upstream, context)).await {
                    Some(Ok(frame)) => {
                        if let Ok(data) = frame.into_data() {
                            bytes.extend_from_slice(&data);
                        }
                    }
                    Some(Err(error)) => return Some(Err(cut_off(&error))),
                    None => return Some(Ok(())),
                }
            }
            None
        };
        let outcome = within(time, reading).await;
        let rest = match outcome {
            Some(Some(Ok(()))) => {
                lending.give_back();
                PeekedRest::Nothing
            }
            Some(Some(Err(error))) => PeekedRest::Cut(upstream, error),
            Some(None) | None => PeekedRest::Coming(upstream, lending),
        };
        Self {
            bytes: Bytes::from(bytes),
            rest,
        }
    }
}

fn cut_off(error: &hyper::Error) -> io::Error {
    let cause = tokensink_host::in_words(error);
    io::Error::other(format!("the upstream cut its answer: {cause}"))
}

impl Body for Answer {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = self.get_mut();
        match &mut this.kind {
            Kind::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Kind::Relayed(relayed) => {
                let polled = relayed.poll_frame(context, &mut this.hold);
                let ended = match &polled {
                    Poll::Ready(Some(Err(error))) if error.kind() == io::ErrorKind::TimedOut => {
                        Ended::TimedOut
                    }
                    Poll::Ready(Some(Err(_))) => Ended::CutOff,
                    Poll::Ready(_) if relayed.is_over() => Ended::Complete,
                    Poll::Ready(_) | Poll::Pending => return polled,
                };
                if let Some(hold) = &mut this.hold {
                    hold.ended(ended);
                }
                polled
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Whole(bytes) => bytes.is_none(),
            Kind::Relayed(relayed) => relayed.is_over(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, length)),
            Kind::Relayed(relayed) => relayed.size_hint(),
        }
    }
}

impl Relayed {
    fn is_over(&self) -> bool {
        self.gathered.is_empty() && matches!(self.next, Next::End)
    }

    fn size_hint(&self) -> SizeHint {
        let frame = match &self.next {
            Next::Frame(bytes) => bytes.len(),
            _ => 0,
        };
        let held = u64::try_from(self.gathered.len() + frame).unwrap_or(u64::MAX);
        longer(&self.upstream.size_hint(), held)
    }

    /// All has come: the connection is free.
    fn complete(&mut self) {
        self.next = Next::End;
        if let Some(lending) = self.lending.take() {
            lending.give_back();
        }
    }

    fn fail(&mut self, error: io::Error) {
        // The connection goes with the failure.
        self.lending = None;
        self.next = Next::Failed {
            error,
            is_flushed: false,
        };
    }

    fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
        hold: &mut Option<Box<dyn Hold>>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if matches!(self.next, Next::More) && self.gather(context, hold).is_pending() {
            return Poll::Pending;
        }
        if !self.gathered.is_empty() {
            let bytes = Bytes::from(std::mem::take(&mut self.gathered));
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        match std::mem::replace(&mut self.next, Next::More) {
            // Nothing was gathered and nothing came: that was said by gather().
            Next::More => Poll::Pending,
            Next::Frame(bytes) => {
                if self.upstream.is_end_stream() {
                    self.complete();
                }
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Next::Trailers(trailers) => {
                self.complete();
                Poll::Ready(Some(Ok(Frame::trailers(trailers))))
            }
            Next::Failed {
                error,
                is_flushed: true,
            } => {
                self.next = Next::End;
                Poll::Ready(Some(Err(error)))
            }
            Next::Failed {
                error,
                is_flushed: false,
            } => {
                self.next = Next::Failed {
                    error,
                    is_flushed: true,
                };
                context.waker().wake_by_ref();
                Poll::Pending
            }
            Next::End => {
                self.next = Next::End;
                Poll::Ready(None)
            }
        }
    }

    /// Takes what is ready. Pending when nothing is to leave now.
    fn gather(&mut self, context: &mut Context<'_>, hold: &mut Option<Box<dyn Hold>>) -> Poll<()> {
        loop {
            let polled = match &self.lending {
                Some(lending) => lending.poll_frame(&mut self.upstream, context),
                None => Pin::new(&mut self.upstream).poll_frame(context),
            };
            match polled {
                Poll::Ready(Some(Ok(frame))) => {
                    self.silence.broken();
                    if let (Some(hold), Some(bytes)) = (hold.as_mut(), frame.data_ref()) {
                        hold.saw(bytes);
                    }
                    self.took(frame);
                }
                Poll::Ready(Some(Err(error))) => {
                    self.fail(cut_off(&error));
                }
                Poll::Ready(None) => self.complete(),
                Poll::Pending if self.gathered.is_empty() => {
                    if self.silence.poll(context).is_pending() {
                        return Poll::Pending;
                    }
                    let limit = self.silence.limit;
                    let text = format!("the upstream sent nothing for {limit:?}");
                    self.fail(io::Error::new(io::ErrorKind::TimedOut, text));
                }
                Poll::Pending => return Poll::Ready(()),
            }
            if !matches!(self.next, Next::More) || self.gathered.len() >= GATHER_BYTES {
                return Poll::Ready(());
            }
        }
    }

    fn took(&mut self, frame: Frame<Bytes>) {
        let frame = match frame.into_data() {
            Ok(bytes) if self.gathered.is_empty() && self.is_alone(&bytes) => {
                self.next = Next::Frame(bytes);
                return;
            }
            Ok(bytes) if bytes.len() >= GATHER_BYTES => {
                self.next = Next::Frame(bytes);
                return;
            }
            Ok(bytes) => {
                self.gathered.extend_from_slice(&bytes);
                if self.upstream.is_end_stream() {
                    self.complete();
                }
                return;
            }
            Err(frame) => frame,
        };
        if let Ok(trailers) = frame.into_trailers() {
            self.next = Next::Trailers(trailers);
        }
    }

    /// Needs no copy: nothing can be joined to it, or it is too large for that.
    fn is_alone(&self, bytes: &Bytes) -> bool {
        self.upstream.is_end_stream() || bytes.len() >= GATHER_BYTES
    }
}
