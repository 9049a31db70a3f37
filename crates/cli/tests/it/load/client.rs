//! A client that keeps its connection and takes nothing for granted: every answer is its own, whole and in order.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

use super::Server;
use super::api::EVENTS;

/// How long an answer may take; only a failing test waits so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a request got.
#[derive(Debug)]
pub(super) enum Got {
    Served,
    Refused { status: u16, body: String },
}

pub(super) struct Client<'a> {
    server: &'a Server,
    connection: BufReader<TcpStream>,
}

impl<'a> Client<'a> {
    pub(super) fn new(server: &'a Server) -> Self {
        let stream = TcpStream::connect(server.address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self {
            server,
            connection: BufReader::new(stream),
        }
    }

    /// Asks, and checks the answer if there is a good one.
    pub(super) fn ask(&mut self, request: usize, stream: bool) -> Got {
        let body = format!(
            "{{\"model\":\"rig/rig-small\",\"stream\":{stream},\"messages\":[{{\"role\":\"user\",\"content\":{request}}}]}}"
        );
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n",
            self.server.address,
            self.server.key,
            body.len()
        );
        let socket = self.connection.get_mut();
        socket.write_all(&[head, body].concat().into_bytes()).unwrap();
        let (status, text) = self.answer(request);
        if status != 200 {
            return Got::Refused { status, body: text };
        }
        if stream {
            let events: Vec<Value> = text
                .split_terminator("\n\n")
                .map(|event| serde_json::from_str(event.strip_prefix("data: ").unwrap()).unwrap())
                .collect();
            assert_eq!(events.len(), EVENTS, "{text}");
            for (number, event) in events.iter().enumerate() {
                assert!(event["of"] == request && event["event"] == number, "{text}");
            }
        } else {
            let answer: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(answer["of"], request, "{text}");
        }
        Got::Served
    }

    fn answer(&mut self, request: usize) -> (u16, String) {
        let first = self.line(request);
        let status = first.split(' ').nth(1).and_then(|word| word.parse().ok());
        let status = status.unwrap_or_else(|| panic!("{first:?}"));
        let (mut length, mut is_chunked) = (0, false);
        loop {
            let line = self.line(request).to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            is_chunked |= line == "transfer-encoding: chunked";
        }
        let mut body = Vec::new();
        if is_chunked {
            loop {
                let size = usize::from_str_radix(&self.line(request), 16).unwrap();
                self.take(size, &mut body);
                assert_eq!(self.line(request), "");
                if size == 0 {
                    break;
                }
            }
        } else {
            self.take(length, &mut body);
        }
        (status, String::from_utf8(body).unwrap())
    }

    fn line(&mut self, request: usize) -> String {
        let mut line = String::new();
        let read = self.connection.read_line(&mut line);
        assert!(
            read.as_ref().is_ok_and(|read| *read > 0),
            "{read:?} in the answer to request {request}"
        );
        line.trim_end().to_owned()
    }

    fn take(&mut self, size: usize, into: &mut Vec<u8>) {
        let from = into.len();
        into.resize(from + size, 0);
        self.connection.read_exact(&mut into[from..]).unwrap();
    }
}
