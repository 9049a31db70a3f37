//! A client that writes bytes and reads answers, with no manners of its own.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use crate::world::KEY;

const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Client {
    stream: TcpStream,
    reader: BufReader<TcpStream>,
}

/// An answer; `complete` is false when it was cut.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) complete: bool,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| &**value)
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self {
            reader: BufReader::new(stream.try_clone().unwrap()),
            stream,
        }
    }

    pub(crate) fn write(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.stream.write_all(bytes.as_ref()).unwrap();
        self
    }

    /// Sends a request of agent main with a body of known length.
    pub(crate) fn post(&mut self, path: &str, body: impl AsRef<[u8]>) -> &mut Self {
        let body = body.as_ref();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {KEY}\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        self.write([head.as_bytes(), body].concat())
    }

    /// A request without a body.
    pub(crate) fn request(&mut self, method: &str, path: &str, headers: &str) -> &mut Self {
        self.write(format!(
            "{method} {path} HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {KEY}\r\n{headers}\r\n"
        ))
    }

    pub(crate) fn half_close(&mut self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = self.reader.read_line(&mut line).ok()?;
        (read > 0 && line.ends_with('\n')).then(|| line.trim_end().to_owned())
    }

    /// The head of the next answer; `None` when the connection ends without one.
    pub(crate) fn head(&mut self) -> Option<Answer> {
        let status = loop {
            let first = self.line()?;
            let status: u16 = first.split(' ').nth(1).unwrap().parse().unwrap();
            if status != 100 {
                break status;
            }
            assert_eq!(self.line().unwrap(), "");
        };
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            let Some((name, value)) = line.split_once(':') else {
                break;
            };
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        Some(Answer {
            status,
            headers,
            body: Vec::new(),
            complete: false,
        })
    }

    /// The next chunk of an answer in chunks: `None` when it is cut, empty at its end.
    pub(crate) fn chunk(&mut self) -> Option<Vec<u8>> {
        let size = usize::from_str_radix(&self.line()?, 16).unwrap();
        let mut chunk = vec![0; size + 2];
        self.reader.read_exact(&mut chunk).ok()?;
        chunk.truncate(size);
        Some(chunk)
    }

    /// A whole answer.
    pub(crate) fn answer(&mut self) -> Answer {
        self.answer_to("POST")
    }

    pub(crate) fn answer_to(&mut self, method: &str) -> Answer {
        let mut answer = self.head().unwrap();
        let chunked = answer.header("transfer-encoding").is_some();
        let length = answer
            .header("content-length")
            .map(|text| text.parse::<usize>().unwrap());
        if method == "HEAD" || answer.status == 204 || answer.status == 304 {
            answer.complete = true;
        } else if chunked {
            while let Some(chunk) = self.chunk() {
                if chunk.is_empty() {
                    answer.complete = true;
                    break;
                }
                answer.body.extend(chunk);
            }
        } else {
            let length = length.unwrap();
            let mut limited = (&mut self.reader).take(length as u64);
            // A reset ends it like an end.
            let _ = limited.read_to_end(&mut answer.body);
            answer.complete = answer.body.len() == length;
        }
        answer
    }

    /// Does the server close now, without another byte?
    pub(crate) fn is_closed(&mut self) -> bool {
        let mut rest = Vec::new();
        match self.reader.read_to_end(&mut rest) {
            Ok(_) => rest.is_empty(),
            Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }
}
