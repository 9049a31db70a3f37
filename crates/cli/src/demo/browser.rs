//! A browser without a window: goes where it is sent, on loopback only. `BROWSER` names it during the demo's login, so
//! that the real login flow runs with nobody at the keyboard.

use std::time::Duration;

use http::header::LOCATION;
use http::{HeaderValue, Request};
use tokensink_host::{Host, Limits};
use tokensink_sink::{ErrorKind, SinkError};
use tokensink_types::Body;
use url::{Host as UrlHost, Url};

use crate::exit::{OK, Outcome};

/// Most redirects that are followed.
const HOPS_MAX: usize = 10;
/// How long the way to loopback may take.
const CONNECT: Duration = Duration::from_secs(5);
/// The page after a login comes when the tokens are there.
const LIMITS: Limits = Limits {
    time: Duration::from_secs(60),
    body_bytes: 1024 * 1024,
};

/// The hidden command: opens `url` and follows every redirect to a page.
pub(crate) fn visit(host: &Host, url: &str) -> Outcome {
    match follow(host, url) {
        Ok(()) => Ok(OK),
        Err(why) => Err(SinkError::new(ErrorKind::Failed, "browser", why).into()),
    }
}

fn follow(host: &Host, url: &str) -> Result<(), String> {
    let mut url = Url::parse(url).map_err(|error| format!("this is no address: {error}"))?;
    for _ in 0..HOPS_MAX {
        if !is_loopback(&url) {
            return Err("only loopback addresses are visited".to_owned());
        }
        let request = Request::get(url.as_str())
            .body(Body::default())
            .map_err(|error| format!("this is no address: {error}"))?;
        let connection = host
            .transport
            .connect(&url, CONNECT)
            .map_err(|error| error.to_string())?;
        let answer = connection
            .exchange(request, LIMITS)
            .map_err(|error| error.to_string())?;
        let next = answer
            .headers()
            .get(LOCATION)
            .map(HeaderValue::to_str)
            .and_then(Result::ok);
        match next {
            Some(next) if answer.status().is_redirection() => {
                url = url
                    .join(next)
                    .map_err(|error| format!("the redirect leads nowhere: {error}"))?;
            }
            _ if answer.status().is_success() => return Ok(()),
            _ => return Err(format!("the page answered {}", answer.status())),
        }
    }
    Err(format!("more than {HOPS_MAX} redirects"))
}

fn is_loopback(url: &Url) -> bool {
    url.scheme() == "http"
        && match url.host() {
            Some(UrlHost::Domain(name)) => name == "localhost",
            Some(UrlHost::Ipv4(ip)) => ip.is_loopback(),
            Some(UrlHost::Ipv6(ip)) => ip.is_loopback(),
            None => false,
        }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};
    use std::sync::Arc;

    use http::{Response, StatusCode};
    use tokensink_host::http_server::{Handler, Reply, Server};

    use super::*;

    fn server() -> Server {
        let handler: Handler = Arc::new(|request, _| {
            let (status, location) = match request.uri().path() {
                "/start" => (StatusCode::FOUND, Some("/page?code=1")),
                "/circle" => (StatusCode::FOUND, Some("/circle")),
                "/away" => (StatusCode::FOUND, Some("http://192.0.2.1/")),
                "/page" => (StatusCode::OK, None),
                _ => (StatusCode::NOT_FOUND, None),
            };
            let mut answer = Response::new(Body::default());
            *answer.status_mut() = status;
            if let Some(location) = location {
                answer
                    .headers_mut()
                    .insert(LOCATION, HeaderValue::from_static(location));
            }
            Reply::Answer(answer)
        });
        Server::start(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), handler).unwrap()
    }

    #[test]
    fn it_goes_where_it_is_sent_on_loopback() {
        let (host, server) = (Host::real(), server());
        let cases = [
            ("/start", None),
            ("/page", None),
            ("/circle", Some("more than 10 redirects")),
            ("/away", Some("only loopback")),
            ("/none", Some("answered 404")),
        ];
        for (path, want) in cases {
            let got = follow(&host, &format!("http://{}{path}", server.addr()));
            match want {
                None => assert_eq!(got, Ok(()), "{path}"),
                Some(want) => assert!(
                    got.as_ref().is_err_and(|why| why.contains(want)),
                    "{path}: {got:?}"
                ),
            }
        }
        for url in [
            "https://127.0.0.1/",
            "http://example.com/",
            "nowhere",
            "http://192.0.2.1/",
        ] {
            assert!(follow(&host, url).is_err(), "{url}");
        }
    }
}
