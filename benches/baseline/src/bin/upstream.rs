//! A provider's API that costs as little as can be: a JSON answer of 399 bytes, or a stream of 20 events where the
//! request says `"stream":true`: all in one write, or each in its own where it says `"user":"apart"`. `cargo xtask bench
//! --gateway` runs it behind every proxy, `cargo xtask dist` also over TLS. The answers are constants, and the requests are
//! read just far enough to find their ends.
#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a program of its own that says on which port it listens, and writes its certificate"
)]

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Parser;
use memchr::memmem;
use rcgen::CertifiedKey;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// Events of a stream, its end included.
const EVENTS: usize = 20;
/// Bytes of the JSON answer's body.
const JSON_BYTES: usize = 399;

/// Answers every request.
#[derive(Debug, Parser)]
struct Options {
    /// Speaks TLS, with a certificate that is written to this file
    #[arg(long)]
    tls: Option<PathBuf>,
}

/// What is answered.
#[derive(Debug)]
struct Answers {
    json: Vec<u8>,
    /// The head, an item for each event, the end.
    apart: Vec<Vec<u8>>,
    together: Vec<u8>,
}

impl Answers {
    fn new() -> Self {
        let open = r#"{"id":"chatcmpl-1","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":""#;
        let close = r#""},"finish_reason":"stop"}],"usage":{"prompt_tokens":12,"completion_tokens":34,"total_tokens":46}}"#;
        let words = "x".repeat(JSON_BYTES - open.len() - close.len());
        let json = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {JSON_BYTES}\r\n\r\n{open}{words}{close}"
        );
        let mut apart = vec![
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
                .to_vec(),
        ];
        for number in 1..=EVENTS {
            let event = if number == EVENTS {
                "data: [DONE]\n\n".to_owned()
            } else {
                format!(
                    "data: {{\"id\":\"chatcmpl-1\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"word {number:02}\"}}}}]}}\n\n"
                )
            };
            apart.push(format!("{:x}\r\n{event}\r\n", event.len()).into_bytes());
        }
        apart.push(b"0\r\n\r\n".to_vec());
        Self {
            json: json.into_bytes(),
            together: apart.concat(),
            apart,
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse();
    let answers = Arc::new(Answers::new());
    let tls = options.tls.as_deref().map(certified).transpose()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        println!("{}", listener.local_addr()?);
        loop {
            let (tcp, _) = listener.accept().await?;
            tcp.set_nodelay(true)?;
            let answers = Arc::clone(&answers);
            // A proxy that closes its connection is no error.
            match tls.clone() {
                None => drop(tokio::spawn(serve(tcp, answers))),
                Some(tls) => drop(tokio::spawn(async move {
                    serve(tls.accept(tcp).await?, answers).await
                })),
            }
        }
    })
}

/// TLS with a new certificate, of which others read in `file`.
fn certified(file: &Path) -> Result<TlsAcceptor, Box<dyn Error>> {
    let CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()])?;
    let key = PrivateKeyDer::try_from(signing_key.serialize_der())?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)?;
    std::fs::write(file, cert.pem())?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

async fn serve<S>(mut tcp: S, answers: Arc<Answers>) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut read = Vec::with_capacity(4096);
    loop {
        let end = loop {
            if let Some(end) = request_end(&read) {
                break end;
            }
            if tcp.read_buf(&mut read).await? == 0 {
                return Ok(());
            }
        };
        let says = |what: &[u8]| memmem::find(&read[..end], what).is_some();
        if !says(b"\"stream\":true") {
            tcp.write_all(&answers.json).await?;
        } else if says(b"\"user\":\"apart\"") {
            for write in &answers.apart {
                tcp.write_all(write).await?;
            }
        } else {
            tcp.write_all(&answers.together).await?;
        }
        read.drain(..end);
    }
}

/// Where the first request ends, if all of it is there. Its body has a length or is chunked without trailers.
fn request_end(read: &[u8]) -> Option<usize> {
    let head = memmem::find(read, b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&read[..head]).to_ascii_lowercase();
    if let Some(at) = text.find("content-length:") {
        let value = text[at + 15..].lines().next()?.trim();
        let length: usize = value.parse().ok()?;
        return (read.len() >= head + length).then_some(head + length);
    }
    if text.contains("transfer-encoding:") {
        return Some(head + memmem::find(&read[head..], b"0\r\n\r\n")? + 5);
    }
    Some(head)
}
