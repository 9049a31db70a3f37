//! Two clients with keys of two agents never reach each other's accounts, whatever they send.
//!
//! Each attempt of [`attempts`] is written to the gateway as bytes, by a client of one agent who knows everything about
//! the other but its key. What counts is the provider's log: every request that the attempt caused carries the account
//! of the one who made it, stays below the provider's base, and is one that was answered; and the next request of the
//! other client arrives whole and with its own account. [`weak`] shows that each class of attempts would be seen.
//!
//! All of it is tried in every [`Setup`]: ids of profiles that tell the agents apart or are the same in both, keys given
//! to the gateway or made in the store, callers over TCP and on the Unix socket. [`limited`] is about keys of some
//! providers only, [`same_ids`] about what the gateway remembers of who served what.

mod attempts;
mod limited;
mod same_ids;
mod weak;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::json;
use tokensink_gateway::{Gateway, Options, Running};
use tokensink_sink::{AgentId, KeyAdd};
use tokensink_testkit::{Seen, Talk};

use self::attempts::{Attempt, Names, attempts};
use crate::world::World;

/// An answer that says whose account was used, and whose id says so as well.
fn tell(seen: &Seen, talk: &mut Talk) {
    let whose = credential(&seen.headers).unwrap_or("nobody").to_owned();
    let id = format!("resp_{}", whose.trim_start_matches("sk-"));
    if seen.path.ends_with("/responses") {
        talk.begin_events();
        let event = json!({"type": "response.created", "response": {"id": id}});
        talk.chunk(format!("event: response.created\ndata: {event}\n\n"));
        talk.end();
    } else {
        talk.json(200, &json!({"id": id, "account": whose}).to_string());
    }
}

/// The one credential of a request; `None` without one or with several.
fn credential(headers: &[(String, String)]) -> Option<&str> {
    let mut found = headers.iter().filter_map(|(name, value)| match name.as_str() {
        "authorization" => Some(value.strip_prefix("Bearer ").unwrap_or(value)),
        "x-api-key" | "api-key" | "x-goog-api-key" | "cookie" | "proxy-authorization" => Some(value),
        _ => None,
    });
    found.next().filter(|_| found.next().is_none())
}

/// What is wrong with what `me` caused at the provider and got back.
fn wrong(me: &str, other: &str, caused: &[Seen], answers: &[u8]) -> Option<String> {
    let served = answers
        .windows(12)
        .filter(|window| window == b"HTTP/1.1 200")
        .count();
    if caused.len() > served {
        return Some(format!("{} requests went up for {served} answers", caused.len()));
    }
    let theirs = format!("sk-{other}");
    let mine = [format!("sk-{me}"), format!("sk-{me}-2")];
    if String::from_utf8_lossy(answers).contains(&theirs) {
        return Some("the answer is of the other's account".to_owned());
    }
    caused.iter().find_map(|seen| {
        let Seen {
            method,
            path,
            headers,
            ..
        } = seen;
        let below = ["/base/", "/anthropic/"]
            .iter()
            .any(|base| path.starts_with(base));
        if !below || path.contains("..") || path.contains("%2e%2e") || method == "TRACE" {
            return Some(format!("{method} {path} is not the provider's to serve"));
        }
        if !credential(headers).is_some_and(|used| mine.iter().any(|mine| mine == used)) {
            return Some(format!("{path} went up with {:?}", credential(headers)));
        }
        let more = std::iter::once(path).chain(headers.iter().map(|(_, value)| value));
        if more.filter(|text| text.contains("sk-")).count() > 1 || path.contains("sk-") {
            return Some(format!("a credential of the client's went up with {path}"));
        }
        let ours = headers
            .iter()
            .find(|(name, _)| name.starts_with("x-tokensink-") || name.starts_with("forwarded"));
        ours.map(|(name, _)| format!("{name} went up"))
    })
}

/// How two clients come to their accounts.
#[derive(Debug, Clone, Copy)]
struct Setup {
    /// Two accounts of each provider, under the same ids in both agents; else one each, under the agent's name.
    same_ids: bool,
    /// Keys made in the store, as `tokensink keys add` does; else keys of the program around the gateway.
    stored_keys: bool,
    /// Over the Unix socket, with a key; else over TCP.
    on_socket: bool,
}

const PLAIN: Setup = Setup {
    same_ids: false,
    stored_keys: false,
    on_socket: false,
};

struct Both {
    world: World,
    gateway: Running,
    keys: [String; 2],
    setup: Setup,
}

impl Both {
    fn new(setup: Setup) -> Self {
        let world = World::new(&[], tell);
        let provider = |id: &str, kind: &str, base: &str, header: &str, model: &str| {
            let text = format!(
                "id = \"{id}\"\nname = \"{id}\"\nbilling = \"subscription\"\n[api]\nkind = \"{kind}\"\n{header}\n\
                 base_url = \"{}{base}\"\nmodels = [\"{model}\"]\n[[auth]]\nid = \"api-key\"\nkind = \"api_key\"\n",
                world.upstream.url()
            );
            world.put(&format!("tokensink/providers/{id}.toml"), &text);
        };
        provider("rig", "openai-responses", "/base", "", "small");
        let bare = "header = \"x-api-key\"\nscheme = \"\"";
        provider("mill", "anthropic-messages", "/anthropic", bare, "grain");
        let agents = json!({"agents": {"list": [{"id": "work"}, {"id": "personal"}]}});
        world.put("openclaw.json", &agents.to_string());
        for agent in ["work", "personal"] {
            let profiles = json!({"version": 1, "profiles": accounts(agent, setup)});
            world.put(
                &format!("agents/{agent}/agent/auth-profiles.json"),
                &profiles.to_string(),
            );
        }
        let keys = ["work", "personal"].map(|agent| match setup.stored_keys {
            true => stored_key(&world, &format!("of-{agent}"), agent, &[]),
            false => format!("tsk-of-{agent}"),
        });
        let fixed = keys.iter().zip(["work", "personal"]);
        let options = Options {
            names: vec!["gateway".to_owned()],
            keys: fixed
                .filter(|_| !setup.stored_keys)
                .map(|(key, agent)| (key.as_str().into(), AgentId::normalise(agent)))
                .collect(),
            workers: 2,
            socket: setup.on_socket,
            ..Options::default()
        };
        let gateway = Gateway::start(world.sink(), &options).unwrap();
        Self {
            world,
            gateway,
            keys,
            setup,
        }
    }

    /// Writes bytes the way that this setup has it, and reads until the gateway closes.
    fn exchange(&self, bytes: &[u8]) -> Vec<u8> {
        if self.setup.on_socket {
            let stream = UnixStream::connect(self.gateway.socket().unwrap()).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            return exchange(stream, bytes);
        }
        let stream = TcpStream::connect(self.gateway.addresses()[0]).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        exchange(stream, bytes)
    }

    /// The profile of `rig` to which an agent's client pins its sessions.
    fn pinned(&self, agent: &str) -> String {
        let name = if self.setup.same_ids { "two" } else { agent };
        format!("rig:{name}")
    }

    fn names<'a>(&self, me: &'a str, other: &'a str) -> Names<'a> {
        let [work, personal] = self.keys.clone();
        let (mine, _) = if me == "work" {
            (work, personal)
        } else {
            (personal, work)
        };
        Names {
            me,
            other,
            key: mine,
            host: self.gateway.addresses()[0].to_string(),
            upstream: self.world.upstream.address().to_string(),
        }
    }

    /// The other has a session, an answer of its own and a pin, all of which `me` knows about.
    fn prepare(&self, names: &Names<'_>) {
        for session in ["x-tokensink-session", "session-id", "x-claude-code-session-id"] {
            let body = format!(r#"{{"model":"rig/small@{}","input":"x"}}"#, self.pinned(names.me));
            let head = format!(
                "POST /v1/responses HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\n{session}: session-of-{}\r\n\
                 connection: close\r\ncontent-length: {}\r\n\r\n{body}",
                names.host,
                names.key,
                names.me,
                body.len()
            );
            let answer = self.exchange(head.as_bytes());
            assert!(
                answer.starts_with(b"HTTP/1.1 200"),
                "{}",
                String::from_utf8_lossy(&answer)
            );
        }
    }

    /// An ordinary request arrives as it was sent, alone, with its sender's account.
    fn check_innocent(&self, names: &Names<'_>, number: usize) -> Result<(), String> {
        let before = self.world.upstream.seen().len();
        let head = format!(
            "POST /rig/innocent-{number} HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\nconnection: close\r\n\
             content-length: 2\r\n\r\nhi",
            names.host, names.key
        );
        let answer = self.exchange(head.as_bytes());
        let seen = self.world.upstream.seen().split_off(before);
        let [seen] = seen.as_slice() else {
            return Err(format!("one request became {}", seen.len()));
        };
        if let Some(wrong) = wrong(names.me, names.other, std::slice::from_ref(seen), &answer) {
            return Err(wrong);
        }
        let arrived = (seen.path.as_str(), seen.body.as_slice(), seen.headers.len());
        let path = format!("/base/innocent-{number}");
        if (arrived.0, arrived.1) != (path.as_str(), b"hi") || arrived.2 > 4 {
            return Err(format!("it became {seen:?}"));
        }
        Ok(())
    }
}

const PATIENCE: Duration = Duration::from_secs(15);

/// The stored profiles of an agent: the first account of each provider, and with the same ids in both agents a second.
fn accounts(agent: &str, setup: Setup) -> serde_json::Map<String, serde_json::Value> {
    let named = [(agent, format!("sk-{agent}"))];
    let same = [("one", format!("sk-{agent}")), ("two", format!("sk-{agent}-2"))];
    let accounts = if setup.same_ids { &same[..] } else { &named[..] };
    let of = |provider: &'static str| {
        accounts.iter().map(move |(name, key)| {
            let entry = json!({"type": "api_key", "provider": provider, "key": key});
            (format!("{provider}:{name}"), entry)
        })
    };
    of("rig").chain(of("mill")).collect()
}

/// A key as `tokensink keys add` makes it.
fn stored_key(world: &World, name: &str, agent: &str, providers: &[&str]) -> String {
    let wanted = KeyAdd {
        name: name.to_owned(),
        agent: agent.to_owned(),
        providers: providers.iter().map(|&id| id.to_owned()).collect(),
    };
    world.sink().key_add(&wanted).unwrap().key.expose().to_owned()
}

/// Writes bytes, and reads until the other side closes.
fn exchange(mut stream: impl Read + Write, bytes: &[u8]) -> Vec<u8> {
    // The gateway may refuse before all is written.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => return answer,
            Ok(length) => answer.extend_from_slice(&chunk[..length]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return answer,
            Err(error) => panic!("{error} after {:?}", String::from_utf8_lossy(&answer)),
        }
    }
}

fn status(answer: &[u8]) -> u16 {
    let text = String::from_utf8_lossy(answer);
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok());
    status.unwrap_or(0)
}

#[test]
fn no_client_reaches_the_others_accounts() {
    try_everything(PLAIN);
}

#[test]
fn nor_where_both_agents_have_two_accounts_under_the_same_ids_and_keys_of_the_store() {
    try_everything(Setup {
        same_ids: true,
        stored_keys: true,
        ..PLAIN
    });
}

/// A process on the socket that shows a key is bound by it. (Without one it is a process of the user who owns the
/// files, and may name its agent.)
#[test]
fn nor_over_the_unix_socket() {
    try_everything(Setup {
        same_ids: true,
        stored_keys: true,
        on_socket: true,
    });
}

fn try_everything(setup: Setup) {
    let both = Both::new(setup);
    let mut found = Vec::new();
    let mut number = 0;
    for (me, other) in [("work", "personal"), ("personal", "work")] {
        let (mine, theirs) = (both.names(me, other), both.names(other, me));
        both.prepare(&theirs);
        // On the socket a request without a key is a local process's and may name its agent.
        let shows_keys = |attempt: &Attempt| {
            let text = String::from_utf8_lossy(&attempt.bytes);
            text.contains(&mine.key) && text.matches("\r\nhost: ").count() <= text.matches(&mine.key).count()
        };
        for Attempt {
            what, want, bytes, ..
        } in attempts(&mine)
            .into_iter()
            .filter(|attempt| !setup.on_socket || shows_keys(attempt))
        {
            let before = both.world.upstream.seen().len();
            let answers = both.exchange(&bytes);
            let caused = both.world.upstream.seen().split_off(before);
            if let Some(wrong) = wrong(me, other, &caused, &answers) {
                found.push(format!("{me}: {what}: {wrong}"));
            }
            if !want.contains(&status(&answers)) {
                let text = String::from_utf8_lossy(&answers);
                found.push(format!(
                    "{me}: {what}: not {want:?}: {}",
                    &text[..text.len().min(500)]
                ));
            }
            number += 1;
            if let Err(wrong) = both.check_innocent(&theirs, number) {
                found.push(format!("{me}: {what}: the next request of {other}: {wrong}"));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
    assert!(number >= 2 * 30, "{number} attempts");
}

/// A test that cannot fail shows nothing: with one check taken out, each class of attempts gets through, and is seen.
#[test]
fn each_class_of_attempts_would_be_seen() {
    let names = Names {
        me: "work",
        other: "personal",
        key: "tsk-work".to_owned(),
        host: "127.0.0.1:1".to_owned(),
        upstream: "127.0.0.1:2".to_owned(),
    };
    let all = attempts(&names);
    for class in attempts::Class::ALL {
        let of_class = all.iter().filter(|attempt| attempt.class == class);
        let seen = of_class.filter(|attempt| {
            let (caused, answers) = weak::gateway(class, &attempt.bytes, &names);
            wrong(names.me, names.other, &caused, &answers).is_some()
        });
        let (got, of) = (
            seen.count(),
            all.iter().filter(|attempt| attempt.class == class).count(),
        );
        assert!(2 * got > of, "{class:?}: {got} of {of} would be seen");
    }
    // And what is right is not seen as wrong.
    let fine = format!(
        "POST /rig/x HTTP/1.1\r\nauthorization: Bearer {}\r\ncontent-length: 0\r\n\r\n",
        names.key
    );
    let (caused, answers) = weak::gateway(attempts::Class::Model, fine.as_bytes(), &names);
    assert_eq!(wrong(names.me, names.other, &caused, &answers), None);
}
