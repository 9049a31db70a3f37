//! A server that answers everything with one JSON text and remembers every byte that it was asked.

use std::sync::{Arc, Mutex};

use http::Response;
use tokensink_host::http_server::{Handler, Reply, Server};
use tokensink_types::Body;

/// The running server; gone when dropped.
pub(crate) struct Recorder {
    server: Option<Server>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

/// One request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Method and path with query.
    pub(crate) line: String,
    /// `content-type`.
    pub(crate) content_type: String,
    /// Its body.
    pub(crate) body: String,
}

impl Recorder {
    /// Starts answering every request with status 200 and `answer`.
    pub(crate) fn start(answer: &str) -> Self {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (kept, answer) = (Arc::clone(&seen), answer.to_owned());
        let handler: Handler = Arc::new(move |request, _| {
            let header = |name| {
                let value = request.headers().get(name);
                value.map_or("", |value| value.to_str().unwrap()).to_owned()
            };
            kept.lock().unwrap().push(Seen {
                line: format!("{} {}", request.method(), request.uri()),
                content_type: header("content-type"),
                body: String::from_utf8_lossy(request.body().expose()).into_owned(),
            });
            let response = Response::builder()
                .header("content-type", "application/json")
                .body(Body::new(answer.clone()))
                .unwrap();
            Reply::Answer(response)
        });
        let server = Server::start("127.0.0.1:0".parse().unwrap(), handler).unwrap();
        Self {
            server: Some(server),
            seen,
        }
    }

    /// The URL of `path` (with a slash in front).
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.server.as_ref().unwrap().addr())
    }

    /// What came so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            server.shutdown();
        }
    }
}
