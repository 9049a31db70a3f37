//! Answers that come in steps.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use http::Response;
use tokensink_host::{AnswerStream, Arrived, ExchangeError};
use tokensink_types::Body;

use crate::FakeClock;

/// What happens next on a stream. After the last step comes its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// These bytes arrive.
    Bytes(Body),
    /// Nothing comes for this long; as the first step it delays the head. For ever, with [`Duration::MAX`].
    Silence(Duration),
    /// The connection is cut.
    Cut,
}

impl Step {
    /// Text arrives.
    #[must_use]
    pub fn text(text: &str) -> Self {
        Self::Bytes(Body::new(text))
    }
}

/// A stream by script.
pub(crate) struct ScriptedStream {
    clock: Option<FakeClock>,
    head: Option<Result<Response<()>, ExchangeError>>,
    steps: VecDeque<Step>,
}

impl ScriptedStream {
    pub(crate) fn new(
        clock: Option<FakeClock>,
        head: Result<Response<()>, ExchangeError>,
        steps: Vec<Step>,
    ) -> Self {
        Self {
            clock,
            head: Some(head),
            steps: steps.into(),
        }
    }

    /// Lets at most `time` of a silence pass; true while it is silent after that.
    fn is_silent(&mut self, time: Duration) -> bool {
        let Some(Step::Silence(left)) = self.steps.front_mut() else {
            return false;
        };
        let passes = time.min(*left);
        *left -= passes;
        let is_over = left.is_zero();
        if let Some(clock) = &self.clock {
            clock.advance(passes);
        }
        if is_over {
            self.steps.pop_front();
        }
        !is_over
    }
}

impl fmt::Debug for ScriptedStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ScriptedStream({} steps left)", self.steps.len())
    }
}

impl AnswerStream for ScriptedStream {
    fn head(&mut self, time: Duration) -> Result<Option<Response<()>>, ExchangeError> {
        if self.is_silent(time) {
            return Ok(None);
        }
        self.head.take().expect("the head is taken once").map(Some)
    }

    fn more(&mut self, time: Duration) -> Result<Arrived, ExchangeError> {
        assert!(self.head.is_none(), "the head comes first");
        if self.is_silent(time) {
            return Ok(Arrived::Nothing);
        }
        match self.steps.pop_front() {
            Some(Step::Bytes(bytes)) if bytes.is_empty() => self.more(time),
            Some(Step::Bytes(bytes)) => Ok(Arrived::Bytes(bytes)),
            Some(Step::Silence(_)) => Ok(Arrived::Nothing),
            Some(Step::Cut) => {
                self.steps.clear();
                Err(ExchangeError::Ambiguous("scripted cut".to_owned()))
            }
            None => Ok(Arrived::End),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::Request;
    use tokensink_host::{Clock as _, Transport as _};
    use url::Url;

    use super::*;
    use crate::{Scripted, ScriptedTransport};

    fn start(transport: &ScriptedTransport) -> Box<dyn AnswerStream> {
        let url = Url::parse("https://api.test/v1/messages").unwrap();
        let connection = transport.connect(&url, Duration::ZERO).unwrap();
        connection.start(Request::new(Body::new("x"))).unwrap()
    }

    #[test]
    fn silence_moves_the_clock_and_the_steps_come_in_order() {
        let (transport, clock) = (ScriptedTransport::default(), FakeClock::default());
        transport.silence_moves(&clock);
        let (second, begin) = (Duration::from_secs(1), clock.monotonic());
        transport.push(Scripted::events([
            Step::Silence(second * 3),
            Step::text("a"),
            Step::Silence(Duration::MAX),
        ]));
        transport.push(Scripted::events([Step::text("a"), Step::Cut]));
        transport.push(Scripted::json(429, "{}"));
        let mut slow = start(&transport);
        assert!(slow.head(second * 2).unwrap().is_none());
        assert_eq!(slow.head(second * 2).unwrap().unwrap().status(), 200);
        assert_eq!(clock.monotonic() - begin, second * 3);
        assert_eq!(slow.more(second).unwrap(), Arrived::Bytes(Body::new("a")));
        assert_eq!(slow.more(second).unwrap(), Arrived::Nothing);
        assert_eq!(clock.monotonic() - begin, second * 4);
        let mut cut = start(&transport);
        assert!(cut.head(second).unwrap().is_some());
        assert!(matches!(cut.more(second), Ok(Arrived::Bytes(_))));
        assert!(matches!(cut.more(second), Err(ExchangeError::Ambiguous(_))));
        let mut whole = start(&transport);
        assert_eq!(whole.head(second).unwrap().unwrap().status(), 429);
        assert_eq!(whole.more(second).unwrap(), Arrived::Bytes(Body::new("{}")));
        assert_eq!(whole.more(second).unwrap(), Arrived::End);
        assert_eq!(transport.requests().len(), 3);
    }
}
