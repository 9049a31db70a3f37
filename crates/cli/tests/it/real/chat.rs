//! `chat` with the real Claude Code as its back end (clients.md 8).

use tokensink_conformance::vendors::HELLO;

use super::clis::Clis;
use super::rig::Reuse;
use crate::world::Said;

fn chat(clis: &Clis, line: &str) -> Said {
    let mut command = clis.ours(line);
    command
        .env("TERM", "dumb")
        .env("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1")
        .env("DISABLE_AUTOUPDATER", "1")
        .env("ANTHROPIC_API_KEY", "sk-ant-api03-canary");
    Said::of(command.output().unwrap())
}

#[test]
fn the_real_claude_answers_and_takes_up_its_conversation() {
    let Some(clis) = Clis::start(Reuse::Revokes) else {
        return;
    };
    clis.log_in_claude(3600);
    clis.run("tokensink external set claude cooperative").code(0);
    clis.run("tokensink models set anthropic/claude-sonnet-4-5")
        .code(0);
    let said = chat(&clis, "tokensink chat --session notes -p xylophone-one --json").code(0);
    let object = said.json();
    assert_eq!(
        (object["answer"].as_str(), object["program"].as_str()),
        (Some(HELLO), Some("claude")),
        "{said:#?}"
    );
    assert_eq!(object["profile"], "anthropic:claude-cli");
    // The program itself remembers what was said, so it is sent along.
    let said = chat(&clis, "tokensink chat --session notes -p xylophone-two").code(0);
    assert_eq!(
        (said.out.as_str(), said.err.as_str()),
        (&*format!("{HELLO}\n"), "")
    );
    let asked = clis.rig.prompts();
    let [first, second] = asked.as_slice() else {
        panic!("{asked:?}")
    };
    assert!(first.contains("xylophone-one"), "{first}");
    assert!(
        second.contains("xylophone-one") && second.contains("xylophone-two"),
        "{second}"
    );
}
