//! The network between this host and the login server, as a relay that can be cut.
//!
//! Only what goes to the token endpoint passes here, so a cut keeps tokens from being refreshed while the API can still
//! be asked about those that are out. A cut relay does not listen: connections are refused, as they are by a router
//! that lost its line.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::uri::PathAndQuery;
use http::{Request, Uri};
use tokensink_host::http_server::{Handler, Reply, Server};
use tokensink_host::{Host, Limits};
use tokensink_types::Body;
use url::Url;

use super::Trouble;

/// Longer than the longest refresh.
const LIMITS: Limits = Limits {
    time: Duration::from_secs(90),
    body_bytes: 1024 * 1024,
};
/// How long the way to loopback may take.
const CONNECT: Duration = Duration::from_secs(5);

/// The relay.
pub(super) struct Relay {
    addr: SocketAddr,
    handler: Handler,
    /// None while the network is cut.
    server: Option<Server>,
}

impl Relay {
    /// Starts to pass requests on to the server at `to`.
    pub(super) fn start(host: &Host, to: &Url) -> Result<Self, Trouble> {
        let handler: Handler = {
            let (host, to) = (host.clone(), to.clone());
            Arc::new(move |request, _| pass_on(&host, &to, request).unwrap_or(Reply::Close))
        };
        let mut relay = Self {
            addr: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            handler,
            server: None,
        };
        relay.mend()?;
        Ok(relay)
    }

    /// Where requests for `path` are to be sent.
    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    /// Cuts the network: whoever connects is refused. Requests that are on their way come to their end first.
    pub(super) fn cut(&mut self) {
        if let Some(server) = self.server.take() {
            server.shutdown();
        }
    }

    /// Mends it, at the same address.
    pub(super) fn mend(&mut self) -> Result<(), Trouble> {
        let server = Server::start(self.addr, Arc::clone(&self.handler))
            .map_err(|error| Trouble::new(format!("no relay could listen on {}: {error}", self.addr)))?;
        self.addr = server.addr();
        self.server = Some(server);
        Ok(())
    }
}

/// `None` where no answer came; the client's connection is then closed without one, as the relay's was.
fn pass_on(host: &Host, to: &Url, request: Request<Body>) -> Option<Reply> {
    let (mut parts, body) = request.into_parts();
    let path = parts.uri.path_and_query().map_or("/", PathAndQuery::as_str);
    parts.uri = Uri::try_from(to.join(path).ok()?.as_str()).ok()?;
    let connection = host.transport.connect(to, CONNECT).ok()?;
    let mut answer = connection
        .exchange(Request::from_parts(parts, body), LIMITS)
        .ok()?;
    for framing in [CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING] {
        answer.headers_mut().remove(framing);
    }
    Some(Reply::Answer(answer))
}

#[cfg(test)]
mod tests {
    use http::{Method, Response};

    use super::*;

    fn ask(host: &Host, url: &str) -> Option<Response<Body>> {
        let url = Url::parse(url).unwrap();
        let request = Request::builder()
            .method(Method::POST)
            .uri(url.as_str())
            .body(Body::new("hello"))
            .unwrap();
        let connection = host.transport.connect(&url, CONNECT).ok()?;
        connection.exchange(request, LIMITS).ok()
    }

    #[test]
    fn it_passes_on_until_it_is_cut_and_again_when_mended() {
        let host = Host::real();
        let echo: Handler = Arc::new(|request, _| {
            let text = format!("{} {}", request.method(), request.uri());
            let mut answer = Response::new(Body::new([text.as_bytes(), request.body().expose()].concat()));
            *answer.status_mut() = http::StatusCode::IM_A_TEAPOT;
            Reply::Answer(answer)
        });
        let server = Server::start(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), echo).unwrap();
        let to = Url::parse(&format!("http://{}/", server.addr())).unwrap();
        let mut relay = Relay::start(&host, &to).unwrap();
        let url = relay.url("/oauth/token?x=1");
        for _ in 0..2 {
            let answer = ask(&host, &url).unwrap();
            assert_eq!(answer.status(), 418);
            assert_eq!(answer.body().expose(), b"POST /oauth/token?x=1hello");
            relay.cut();
            assert!(ask(&host, &url).is_none(), "cut");
            relay.mend().unwrap();
        }
        server.shutdown();
        assert!(ask(&host, &url).is_none(), "nobody behind it");
    }
}
