//! What the gateway remembers of who served what belongs to the agent. Where both agents have the same ids of profiles,
//! a memory shared between them would find an account for the other's answers, and would be seen by nothing else.

use super::attempts::{Names, filled};
use super::{Both, Setup, credential, status};

/// The other's session and the answer that was made in it, referred to in every way. Their id is `$ID`.
const REFERENCES: &[&str] = &[
    "POST /v1/responses HTTP/1.1\r\n$AUTH\r\n$CL\r\n\r\n{\"model\":\"rig/small\",\"previous_response_id\":\"$ID\"}",
    "POST /v1/responses HTTP/1.1\r\n$AUTH\r\nx-tokensink-session: s-OTHER\r\n$CL\r\n\r\n{\"model\":\"rig/small\",\"previous_response_id\":\"$ID\"}",
    // An id that nobody knows: only the session could say whose it is.
    "POST /v1/responses HTTP/1.1\r\n$AUTH\r\nx-tokensink-session: s-OTHER\r\n$CL\r\n\r\n{\"model\":\"rig/small\",\"previous_response_id\":\"resp_unknown\"}",
    "POST /rig/responses HTTP/1.1\r\n$AUTH\r\n$CL\r\n\r\n{\"model\":\"small\",\"previous_response_id\":\"$ID\"}",
    "GET /rig/responses/$ID HTTP/1.1\r\n$AUTH\r\nconnection: close\r\n\r\n",
    "DELETE /rig/responses/$ID HTTP/1.1\r\n$AUTH\r\nconnection: close\r\n\r\n",
];

#[test]
fn what_one_agent_made_ties_the_other_to_nothing() {
    for on_socket in [false, true] {
        let both = Both::new(Setup {
            same_ids: true,
            stored_keys: true,
            on_socket,
        });
        for (me, other) in [("work", "personal"), ("personal", "work")] {
            let (mine, theirs) = (both.names(me, other), both.names(other, me));
            let made = format!(
                "POST /v1/responses HTTP/1.1\r\n$AUTH\r\nx-tokensink-session: s-{other}\r\n$CL\r\n\r\n\
                 {{\"model\":\"rig/small@rig:two\"}}"
            );
            let id = format!("resp_{other}-2");
            let answer = ask(&both, &made, &theirs).1;
            assert!(answer.contains(&id), "{answer}");
            for reference in REFERENCES {
                let reference = reference.replace("$ID", &id);
                let (up, answer) = ask(&both, &reference, &mine);
                assert!(answer.contains("continuity_break"), "{me}: {reference}: {answer}");
                assert_eq!((status(answer.as_bytes()), up), (400, None), "{me}: {reference}");
            }
            // Who made it goes on with the account that made it.
            for reference in REFERENCES {
                let reference = reference.replace("$ID", &id).replace("OTHER", other);
                let (up, answer) = ask(&both, &reference, &theirs);
                assert_eq!(
                    (status(answer.as_bytes()), up),
                    (200, Some(format!("sk-{other}-2"))),
                    "{other}: {reference}: {answer}"
                );
            }
        }
    }
}

/// Whose credential went up, and the answer.
fn ask(both: &Both, template: &str, names: &Names<'_>) -> (Option<String>, String) {
    let before = both.world.upstream.seen().len();
    let answer = both.exchange(&filled(template, names));
    let caused = both.world.upstream.seen().split_off(before);
    assert!(caused.len() <= 1, "{caused:?}");
    let up = caused.first().and_then(|seen| credential(&seen.headers));
    (
        up.map(str::to_owned),
        String::from_utf8_lossy(&answer).into_owned(),
    )
}
