//! A program that is talked to and never starts.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokensink_host::{Dialogue, Farewell, Heard, SayError};
use tokensink_types::Body;

use crate::FakeClock;
use crate::processes::{Started, Talker};

/// What a [`Talker`] does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// It says a line.
    Line(String),
    /// It says too much.
    Flood,
    /// It ends with this exit code and this on standard error.
    End(i32, String),
    /// It has taken only this many bytes of the line that it was given last.
    Took(usize),
}

/// A conversation with a [`Talker`]. Silence takes the time for which it is listened to.
pub(crate) struct FakeTalk {
    clock: FakeClock,
    talker: Arc<Talker>,
    started: Started,
    replies: VecDeque<Reply>,
    ended: Option<(i32, String)>,
}

impl fmt::Debug for FakeTalk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FakeTalk({:?})", self.started.program)
    }
}

impl FakeTalk {
    pub(crate) fn start(clock: FakeClock, talker: Arc<Talker>, started: Started) -> Self {
        let replies = talker(&started, None).into();
        Self {
            clock,
            talker,
            started,
            replies,
            ended: None,
        }
    }
}

impl Dialogue for FakeTalk {
    fn listen(&mut self, time: Duration) -> io::Result<Heard> {
        match self.replies.pop_front() {
            _ if self.ended.is_some() => Ok(Heard::End),
            Some(Reply::Line(line)) => Ok(Heard::Line(Body::new(line))),
            Some(Reply::Flood) => Err(io::Error::new(io::ErrorKind::FileTooLarge, "too much")),
            Some(Reply::End(code, complaint)) => {
                self.ended = Some((code, complaint));
                Ok(Heard::End)
            }
            Some(Reply::Took(_)) | None => {
                self.clock.advance(time);
                Ok(Heard::Nothing)
            }
        }
    }

    fn say(&mut self, line: &Body, _time: Duration) -> Result<(), SayError> {
        if self.ended.is_some() {
            let source = io::ErrorKind::BrokenPipe.into();
            return Err(SayError { written: 0, source });
        }
        let text = String::from_utf8_lossy(line.expose()).into_owned();
        let replies = (self.talker)(&self.started, Some(text.trim_end()));
        if let Some(Reply::Took(written)) = replies.first() {
            let source = io::ErrorKind::BrokenPipe.into();
            return Err(SayError {
                written: *written,
                source,
            });
        }
        self.replies.extend(replies);
        Ok(())
    }

    fn close_input(&mut self) {
        // A talker that waits for the end of its input is told so by an empty line.
        if self.ended.is_none() {
            self.replies.extend((self.talker)(&self.started, Some("")));
        }
    }

    fn end(self: Box<Self>, _time: Duration) -> Farewell {
        let (code, complaint) = self
            .ended
            .map_or((None, String::new()), |(code, complaint)| (Some(code), complaint));
        Farewell {
            code,
            complaint: complaint.into_bytes(),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokensink_host::{Clock as _, DialogueLimits, DialogueRequest, Processes as _};

    use super::*;
    use crate::{FakeProcesses, Start};

    fn request() -> DialogueRequest {
        DialogueRequest {
            program: "/plugin".into(),
            args: Vec::new(),
            env: vec![("A".into(), "b".into())],
            dir: "/".into(),
            limits: DialogueLimits {
                line_bytes: 1,
                output_bytes: 1,
                complaint_bytes: 1,
            },
        }
    }

    #[test]
    fn a_talker_answers_hangs_and_ends() {
        let (clock, processes) = (FakeClock::default(), FakeProcesses::default());
        assert!(processes.spawn_dialogue(request()).is_err(), "nobody is there");
        processes.on_dialogue(&clock, |_, told| match told {
            None => vec![Reply::Line("hello".to_owned())],
            Some("cut") => vec![Reply::Took(3)],
            Some(_) => vec![Reply::End(7, "bye".to_owned())],
        });
        let mut talk = processes.spawn_dialogue(request()).unwrap();
        assert_eq!(
            talk.listen(Duration::ZERO).unwrap(),
            Heard::Line(Body::new("hello"))
        );
        let before = clock.monotonic();
        assert_eq!(talk.listen(Duration::from_secs(9)).unwrap(), Heard::Nothing);
        assert_eq!(clock.monotonic() - before, Duration::from_secs(9));
        assert_eq!(
            talk.say(&Body::new("cut\n"), Duration::ZERO).unwrap_err().written,
            3
        );
        talk.say(&Body::new("go\n"), Duration::ZERO).unwrap();
        assert_eq!(talk.listen(Duration::ZERO).unwrap(), Heard::End);
        assert_eq!(
            talk.say(&Body::new("go\n"), Duration::ZERO).unwrap_err().written,
            0
        );
        assert_eq!(talk.end(Duration::ZERO).code, Some(7));
        let started = &processes.started()[1];
        assert_eq!((started.start, started.set_env.len()), (Start::Dialogue, 1));
    }
}
