//! The least that a proxy written with hyper can be: the library's server, its pooled client, one header put in, bodies
//! passed on as they come. `cargo xtask bench --gateway` runs it beside `tokensink serve` and nginx. It deliberately
//! checks, routes, retries, measures and remembers nothing.
#![expect(clippy::print_stdout, reason = "it says on which port it listens")]

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use http::header::{AUTHORIZATION, HOST, HeaderValue};
use http::uri::{Authority, Scheme};
use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use signal_hook::consts::SIGTERM;
use signal_hook::iterator::Signals;
use tokio::net::TcpListener;
use tokio::sync::Notify;

type Upstream = Client<HttpConnector, Incoming>;

/// Passes every request on to one address.
#[derive(Debug, Parser)]
struct Options {
    /// Address and port of the upstream
    upstream: Authority,
    /// Value of the Authorization header that is put in
    authorization: HeaderValue,
}

/// What every request needs.
#[derive(Debug, Clone)]
struct Proxy {
    client: Upstream,
    upstream: Authority,
    host: HeaderValue,
    authorization: HeaderValue,
}

impl Proxy {
    async fn pass(
        self,
        mut request: Request<Incoming>,
    ) -> Result<Response<Incoming>, Box<dyn Error + Send + Sync>> {
        let mut parts = std::mem::take(request.uri_mut()).into_parts();
        parts.scheme = Some(Scheme::HTTP);
        parts.authority = Some(self.upstream);
        *request.uri_mut() = Uri::from_parts(parts)?;
        request.headers_mut().insert(HOST, self.host);
        request.headers_mut().insert(AUTHORIZATION, self.authorization);
        Ok(self.client.request(request).await?)
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(serve(options))
}

async fn serve(options: Options) -> Result<(), Box<dyn Error>> {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let client = Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(Duration::from_secs(50))
        .build(connector);
    let proxy = Proxy {
        client,
        host: HeaderValue::try_from(options.upstream.as_str())?,
        upstream: options.upstream,
        authorization: options.authorization,
    };
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    let told = Arc::new(Notify::new());
    let mut signals = Signals::new([SIGTERM])?;
    let end = Arc::clone(&told);
    std::thread::spawn(move || {
        signals.forever().next();
        end.notify_one();
    });
    loop {
        let (tcp, _) = tokio::select! {
            accepted = listener.accept() => accepted?,
            // What it has counted of itself, if it was built to count, is written at a regular end only.
            () = told.notified() => return Ok(()),
        };
        tcp.set_nodelay(true)?;
        let proxy = proxy.clone();
        let service = service_fn(move |request| proxy.clone().pass(request));
        // A client that leaves is no error of the proxy's.
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(tcp), service));
    }
}
