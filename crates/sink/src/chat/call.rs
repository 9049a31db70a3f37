//! One call of a model API: the request goes out once, and its answer is told while it comes.
//!
//! Nothing is repeated here. What became of the call is said so that the caller can decide: whether anything was sent,
//! whether there was an answer, and whether text of it was shown.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use tokensink_host::{AnswerStream, Arrived, CONNECT_TIME, ExchangeError, Host};
use tokensink_providers::ApiKind;
use tokensink_types::Body;
use url::Url;

use super::build::Built;
use super::decode::{Decoder, Said, Usage};
use super::sse::Events;
use crate::lease::Lease;
use crate::login::Cancel;

/// How long the answer's head may take: models think before they say a word.
const FIRST_BYTE: Duration = Duration::from_secs(600);
/// How long a stream may be silent. The APIs send pings or comments far more often.
const IDLE: Duration = Duration::from_secs(300);
/// Between two looks whether the person wants no more.
const GLANCE: Duration = Duration::from_millis(100);
/// Largest error answer that is read.
const ERROR_BYTES: usize = 64 * 1024;
/// How long the rest of an error answer may take.
const ERROR_TIME: Duration = Duration::from_secs(10);

/// What became of a call.
#[derive(Debug)]
pub(super) enum Called {
    /// It was answered whole; with a word where it ended otherwise than by itself.
    Answered { usage: Usage, stop: Option<String> },
    /// An answer that is no success. `status` is `None` for an error event inside a stream.
    Refused {
        status: Option<u16>,
        headers: HeaderMap,
        body: Body,
    },
    /// Nothing was sent.
    NotSent(String),
    /// It was sent, and its answer did not come in time.
    TimedOut(String),
    /// It was sent, and its answer is not whole.
    CutOff(String),
    /// The person wanted no more.
    GivenUp,
}

/// A call that is to be made.
pub(super) struct Call<'a> {
    pub(super) host: &'a Host,
    pub(super) kind: ApiKind,
    pub(super) built: &'a Built,
    pub(super) lease: &'a Lease,
    pub(super) cancel: &'a Cancel,
}

impl Call<'_> {
    /// Makes the call. `served` is given the head of a 2xx answer, `say` each piece of text.
    pub(super) fn make(&self, served: &mut dyn FnMut(&HeaderMap), say: &mut dyn FnMut(&str)) -> Called {
        let (url, request) = match self.request() {
            Ok(request) => request,
            Err(cause) => return Called::NotSent(cause),
        };
        let connected = self.host.transport.connect(&url, CONNECT_TIME);
        let connection = match connected {
            Ok(connection) => connection,
            Err(error) => {
                let hint = error
                    .hint
                    .as_ref()
                    .map_or_else(String::new, |hint| format!("; {hint}"));
                return Called::NotSent(format!("{error}{hint}"));
            }
        };
        if self.cancel.is_set() {
            return Called::GivenUp;
        }
        let mut stream = match connection.start(request) {
            Ok(stream) => stream,
            Err(error) => return lost(&error),
        };
        let head = match self.head(&mut *stream) {
            Ok(head) => head,
            Err(called) => return called,
        };
        if !head.status().is_success() {
            return Called::Refused {
                status: Some(head.status().as_u16()),
                body: self.error_body(&mut *stream),
                headers: head.into_parts().0.headers,
            };
        }
        let headers = head.into_parts().0.headers;
        served(&headers);
        self.events(&mut *stream, &headers, say)
    }

    fn request(&self) -> Result<(Url, Request<Body>), String> {
        let base = self.lease.base_url.as_deref().unwrap_or_default();
        let address = format!("{base}{}", self.built.path);
        let url = Url::parse(&address).map_err(|error| format!("{address:?} is no address: {error}"))?;
        let mut request = Request::post(url.as_str())
            .body(Body::new(self.built.body.as_str()))
            .map_err(|error| format!("{url}: {error}"))?;
        let headers = request.headers_mut();
        for (name, value) in self.built.headers {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        for (name, value) in &self.lease.headers {
            // Neither is quoted: the value is the secret.
            let pair = HeaderName::try_from(name.as_str())
                .ok()
                .zip(HeaderValue::from_str(value.expose()).ok());
            let Some((name, mut value)) = pair else {
                return Err(format!("a header of {} cannot be sent", self.lease.profile));
            };
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        Ok((url, request))
    }

    /// Waits for the head.
    fn head(&self, stream: &mut dyn AnswerStream) -> Result<Response<()>, Called> {
        let begun = self.host.clock.monotonic();
        loop {
            match stream.head(GLANCE) {
                Ok(Some(head)) => return Ok(head),
                Ok(None) if self.cancel.is_set() => return Err(Called::GivenUp),
                Ok(None) if self.host.clock.monotonic().saturating_sub(begun) >= FIRST_BYTE => {
                    let minutes = FIRST_BYTE.as_secs() / 60;
                    return Err(Called::TimedOut(format!("no answer within {minutes} minutes")));
                }
                Ok(None) => {}
                Err(error) => return Err(lost(&error)),
            }
        }
    }

    /// What an error answer says, as far as it comes.
    fn error_body(&self, stream: &mut dyn AnswerStream) -> Body {
        let begun = self.host.clock.monotonic();
        let mut all = Vec::new();
        while all.len() < ERROR_BYTES && !self.cancel.is_set() {
            match stream.more(GLANCE) {
                Ok(Arrived::Bytes(bytes)) => all.extend_from_slice(bytes.expose()),
                Ok(Arrived::Nothing) if self.host.clock.monotonic().saturating_sub(begun) < ERROR_TIME => {}
                Ok(Arrived::Nothing | Arrived::End) | Err(_) => break,
            }
        }
        all.truncate(ERROR_BYTES);
        Body::new(all)
    }

    fn events(
        &self,
        stream: &mut dyn AnswerStream,
        headers: &HeaderMap,
        say: &mut dyn FnMut(&str),
    ) -> Called {
        let (mut events, mut decoder) = (Events::default(), Decoder::new(self.kind));
        let mut usage = Usage::default();
        let mut heard_at = self.host.clock.monotonic();
        let mut hear = |said: Vec<Said>| -> Option<Called> {
            for one in said {
                match one {
                    Said::Text(text) => say(&text),
                    Said::Usage(told) => usage = usage.updated_by(told),
                    Said::Failed(body) => {
                        return Some(Called::Refused {
                            status: None,
                            headers: headers.clone(),
                            body: Body::new(body),
                        });
                    }
                    Said::Done(stop) => return Some(Called::Answered { usage, stop }),
                }
            }
            None
        };
        loop {
            if self.cancel.is_set() {
                return Called::GivenUp;
            }
            match stream.more(GLANCE) {
                Ok(Arrived::Bytes(bytes)) => {
                    heard_at = self.host.clock.monotonic();
                    let Ok(found) = events.feed(bytes.expose()) else {
                        return Called::CutOff("an event of the answer has no end".to_owned());
                    };
                    for event in found {
                        if let Some(called) = hear(decoder.read(&event)) {
                            return called;
                        }
                    }
                }
                Ok(Arrived::Nothing) if self.host.clock.monotonic().saturating_sub(heard_at) >= IDLE => {
                    let minutes = IDLE.as_secs() / 60;
                    return Called::TimedOut(format!("nothing more came within {minutes} minutes"));
                }
                Ok(Arrived::Nothing) => {}
                Ok(Arrived::End) => {
                    let last = events.finish().map(|event| decoder.read(&event));
                    let ended = last.and_then(&mut hear);
                    let ended = ended.or_else(|| hear(decoder.finish().into_iter().collect()));
                    return ended.unwrap_or_else(|| {
                        Called::CutOff("it ended before the answer was whole".to_owned())
                    });
                }
                Err(error) => return lost(&error),
            }
        }
    }
}

/// An exchange that failed.
fn lost(error: &ExchangeError) -> Called {
    match error {
        ExchangeError::NotWritten(cause) => Called::NotSent(cause.clone()),
        other => Called::CutOff(other.to_string()),
    }
}
