use std::path::PathBuf;

use tokensink_sink::{AgentId, CredentialKind, ProfileId, ProfileState, ProviderId};

use super::*;
use crate::name::Name;
use crate::render::status::tests::NOW;

fn id(text: &str) -> ProfileId {
    ProfileId::parse(text).unwrap()
}

fn profile(name: &str, external: bool) -> ProfileInfo {
    ProfileInfo {
        id: id(name),
        provider: ProviderId::parse("anthropic").unwrap(),
        kind: CredentialKind::OAuth,
        owner: AgentId::main(),
        inherited: external,
        label: name.to_owned(),
        email: None,
        expires: Some(UnixMillis(NOW.0 + 7_200_000)),
        bench: None,
        is_external: external,
        state: ProfileState::Usable,
    }
}

#[test]
fn profiles_and_channels() {
    let list = [
        profile("anthropic:work", false),
        profile("anthropic:claude-cli", true),
    ];
    assert_eq!(
        profiles(&list, NOW, &Look::plain(Name::OWN)),
        "\
Profile               Type   State   Expires
anthropic:work        oauth  usable  in 2 hours
anthropic:claude-cli  oauth  usable  in 2 hours
    inherited from agent main
    owned by another program
"
    );
    assert_eq!(
        channels(&list, &[]),
        "\
Auth providers (OAuth + API keys):
- anthropic:work (oauth)
- anthropic:claude-cli (oauth (synced))
"
    );
    assert_eq!(channels(&[], &[]), "Auth providers (OAuth + API keys):\n- none\n");
}

#[test]
fn agents_and_models() {
    let agent = |id: &str, name: Option<&str>, inherits| AgentInfo {
        id: AgentId::normalise(id),
        name: name.map(str::to_owned),
        workspace: PathBuf::from(format!("/w/{id}")),
        agent_dir: PathBuf::from("/a"),
        bindings: 0,
        is_default: id == "main",
        model: name.map(|_| "x/y".to_owned()),
        inherits,
    };
    let list = [
        agent("main", None, true),
        agent("work", Some("Work"), true),
        agent("home", None, false),
    ];
    assert_eq!(
        agents(&list, |_| Vec::new(), &Look::plain(Name::OWN)),
        "\
Agent        Model    Logins            Workspace
main *       default  own               /w/main
work (Work)  x/y      own, else main's  /w/work
home         default  own only          /w/home
* the default agent
"
    );
    let list = [ModelInfo {
        key: "anthropic/claude-opus-4-6".to_owned(),
        name: "claude-opus-4-6".to_owned(),
        provider: ProviderId::parse("anthropic").unwrap(),
        available: true,
        tags: vec!["default".to_owned(), "alias:opus".to_owned()],
    }];
    assert_eq!(
        models(&list, &Look::plain(Name::OWN)),
        "\
Model                      Login  Tags
anthropic/claude-opus-4-6  yes    default, alias:opus
"
    );
}

#[test]
fn every_outcome_of_a_renewal() {
    let soon = Some(UnixMillis(NOW.0 + 60_000));
    let results = [
        RenewResult::Renewed { expires: soon },
        RenewResult::NotDue { due_at: soon },
        RenewResult::NotDue { due_at: None },
        RenewResult::TryAgain {
            reason: "no connection to https://example.com".to_owned(),
            at: soon,
        },
        RenewResult::LoginNeeded {
            reason: "refused".to_owned(),
            command: "tokensink models auth login --provider rig".to_owned(),
        },
        RenewResult::Failed {
            reason: "the disk is full".to_owned(),
        },
    ];
    let outcomes: Vec<RenewOutcome> = results
        .into_iter()
        .map(|result| RenewOutcome {
            agent: AgentId::main(),
            profile: id("rig:default"),
            result,
        })
        .collect();
    let look = Look::plain(Name::of(Some("openclaw".as_ref())));
    assert_eq!(
        renewals(&outcomes, NOW, &look),
        "\
Profile      Agent  Outcome
rig:default  main   renewed, expires in 1 minute
rig:default  main   not due, due in 1 minute
rig:default  main   not due
rig:default  main   try again in 1 minute
    no connection to https://example.com
rig:default  main   login needed
    refused
    fix: openclaw models auth login --provider rig
rig:default  main   failed
    the disk is full
"
    );
}
