//! An API behind TLS, as all real ones are.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use rcgen::CertifiedKey;
use rustls::pki_types::PrivateKeyDer;
use tokensink_testkit::{Seen, Talk};
use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;

use crate::world::{World, client, error};

/// TLS before a plain API, until it is dropped.
struct Front {
    address: SocketAddr,
    /// Its certificate, which nobody else has signed.
    pem: String,
    _running: Runtime,
}

impl Front {
    fn before(upstream: SocketAddr) -> Self {
        let names = vec!["127.0.0.1".to_owned()];
        let CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed(names).unwrap();
        let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        let running = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        running.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    // A client that does not trust us breaks it off.
                    let Ok(mut client) = acceptor.accept(client).await else {
                        return;
                    };
                    let mut upstream = TcpStream::connect(upstream).await.unwrap();
                    let _either_side_left = copy_bidirectional(&mut client, &mut upstream).await;
                });
            }
        });
        Self {
            address,
            pem: cert.pem(),
            _running: running,
        }
    }

    /// Where agent main's provider is from now on, and whether this certificate is trusted.
    fn set_up(&self, world: &World, is_trusted: bool) {
        world.provider(&format!("https://{}/base", self.address));
        if is_trusted {
            let path = world.state_dir().join("ca.pem");
            std::fs::write(&path, &self.pem).unwrap();
            let settings = format!("[network]\nextra_ca = [{:?}]\n", path.to_str().unwrap());
            world.put("tokensink/config.toml", &settings);
        }
    }
}

fn events(seen: &Seen, talk: &mut Talk) {
    if seen.path.ends_with("/events") {
        talk.begin_events();
        for number in 0..100 {
            talk.chunk(format!("data: {number}\n\n"));
        }
        talk.end();
    } else {
        talk.json(200, "{\"answered\":true}");
    }
}

#[test]
fn requests_and_streams_go_over_one_connection_that_is_kept() {
    let world = World::new(&["one"], events);
    let front = Front::before(world.upstream.address());
    front.set_up(&world, true);
    let gateway = world.gateway();
    let mut client = client(&gateway);
    for _ in 0..3 {
        let answer = client.post("/rig/v1/things", "hello").answer();
        assert_eq!((answer.status, answer.text()), (200, "{\"answered\":true}"));
        let answer = client.post("/rig/v1/events", "hello").answer();
        let all: String = (0..100).map(|number| format!("data: {number}\n\n")).collect();
        assert_eq!((answer.text(), answer.complete), (&*all, true));
    }
    let seen = world.upstream.seen();
    assert_eq!(seen.len(), 6);
    let host = front.address.to_string();
    for one in &seen {
        assert_eq!((one.bearer(), one.header("host")), ("sk-one", Some(&*host)));
    }
    assert_eq!(world.upstream.connections(), 1);
}

#[test]
fn whoever_cannot_show_a_certificate_gets_no_token() {
    let world = World::new(&["one"], events);
    let front = Front::before(world.upstream.address());
    front.set_up(&world, false);
    let gateway = world.gateway();
    let answer = client(&gateway).post("/rig/v1/things", "hello").answer();
    let told = error(&answer.body);
    assert_eq!(
        (answer.status, &told["code"]),
        (502, &"upstream_unreachable".into()),
        "{told}"
    );
    let message = told["message"].as_str().unwrap();
    assert!(
        message.contains("certificate") && message.contains("extra_ca"),
        "{told}"
    );
    assert_eq!(world.upstream.connections(), 0);
}
