//! Clients that ask as fast as they are answered, and one line of JSON about it: how many answers came, how long they
//! took. `cargo xtask bench --gateway` runs it before every proxy. It speaks bare sockets, because a client library
//! would need more of the processor than most proxies.
#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a program of its own that connects, times and prints"
)]

use std::cell::RefCell;
use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use clap::Parser;
use memchr::memmem;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::LocalSet;

/// Sends the same request over and over.
#[derive(Debug, Parser)]
struct Options {
    /// Address and port of the proxy
    address: SocketAddr,
    /// Path of the request
    path: String,
    /// Connections; each asks again when it has its answer
    #[arg(long, default_value_t = 16)]
    connections: usize,
    /// How long, in milliseconds
    #[arg(long, default_value_t = 2000)]
    time: u64,
    /// Asks for a stream of events instead of a JSON answer
    #[arg(long)]
    stream: bool,
    /// Asks for each event in a write of its own
    #[arg(long, requires = "stream")]
    apart: bool,
    /// The key that is sent as a bearer token
    #[arg(long, default_value = "none")]
    key: String,
    /// The model that is asked for
    #[arg(long, default_value = "small")]
    model: String,
}

/// What one run has found.
#[derive(Debug, Default)]
struct Found {
    micros: Vec<u32>,
    errors: Vec<String>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let found = Rc::new(RefCell::new(Found::default()));
    let began = Instant::now();
    let end = began + Duration::from_millis(options.time);
    let request: Rc<[u8]> = request(&options).into();
    let all = LocalSet::new();
    for _ in 0..options.connections {
        let (request, found) = (Rc::clone(&request), Rc::clone(&found));
        let (address, stream) = (options.address, options.stream);
        all.spawn_local(async move {
            if let Err(error) = client(address, &request, stream, end, &found).await {
                found.borrow_mut().errors.push(error.to_string());
            }
        });
    }
    runtime.block_on(all);
    let took = began.elapsed().as_secs_f64();
    let mut found = found.take();
    found.micros.sort_unstable();
    let at = |share: usize| {
        let place = (found.micros.len().saturating_sub(1)) * share / 1000;
        found.micros.get(place).copied().unwrap_or_default()
    };
    let report = json!({
        "answers": found.micros.len(), "seconds": took, "p50_us": at(500), "p99_us": at(990),
        "errors": found.errors,
    });
    println!("{report}");
    Ok(())
}

fn request(options: &Options) -> Vec<u8> {
    let stream = match (options.stream, options.apart) {
        (false, _) => "",
        (true, false) => r#","stream":true"#,
        (true, true) => r#","stream":true,"user":"apart""#,
    };
    let body = format!(
        r#"{{"model":"{}"{stream},"messages":[{{"role":"user","content":"Say something that is short."}}]}}"#,
        options.model
    );
    let head = format!(
        "POST {} HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
         accept: */*\r\nuser-agent: bench/1\r\ncontent-length: {}\r\n\r\n",
        options.path,
        options.address,
        options.key,
        body.len()
    );
    [head.into_bytes(), body.into_bytes()].concat()
}

async fn client(
    address: SocketAddr,
    request: &[u8],
    stream: bool,
    end: Instant,
    found: &RefCell<Found>,
) -> io::Result<()> {
    let mut tcp = TcpStream::connect(address).await?;
    tcp.set_nodelay(true)?;
    let mut read = Vec::with_capacity(16 * 1024);
    loop {
        let began = Instant::now();
        if began >= end {
            return Ok(());
        }
        tcp.write_all(request).await?;
        read.clear();
        while !is_whole(&read) {
            if tcp.read_buf(&mut read).await? == 0 {
                return Err(wrong("the answer was cut", &read));
            }
        }
        let took = began.elapsed().as_micros();
        if !read.starts_with(b"HTTP/1.1 200 ") {
            return Err(wrong("not 200", &read));
        }
        if stream && memmem::find_iter(&read, b"data: ").count() != EVENTS {
            return Err(wrong("events are missing", &read));
        }
        let took = u32::try_from(took).unwrap_or(u32::MAX);
        found.borrow_mut().micros.push(took);
    }
}

/// Events of a stream.
const EVENTS: usize = 20;

fn wrong(what: &str, read: &[u8]) -> io::Error {
    let beginning = String::from_utf8_lossy(&read[..read.len().min(300)]);
    io::Error::other(format!("{what}: {beginning:?}"))
}

/// Whether an answer has come to its end: by its length, or by the last chunk.
fn is_whole(read: &[u8]) -> bool {
    let Some(head) = memmem::find(read, b"\r\n\r\n").map(|at| at + 4) else {
        return false;
    };
    match length(&read[..head]) {
        Some(length) => read.len() >= head + length,
        None => read.ends_with(b"0\r\n\r\n"),
    }
}

fn length(head: &[u8]) -> Option<usize> {
    const NAME: &[u8] = b"\ncontent-length:";
    let at = head
        .windows(NAME.len())
        .position(|window| window.eq_ignore_ascii_case(NAME))?;
    let value = &head[at + NAME.len()..];
    let value = &value[..memchr::memchr(b'\r', value)?];
    std::str::from_utf8(value).ok()?.trim().parse().ok()
}
