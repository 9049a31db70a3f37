use std::path::PathBuf;
use std::sync::Arc;

use tokensink_sink::{
    Account, AgentId, Betas, BillingClass, BindReport, CredentialKind, Issued, LeaseId, Secret, Spendable,
};

use tokensink_types::ProviderId;

use super::*;
use crate::render::status::tests::{NOW, sample};

#[test]
fn status_has_the_documented_fields() {
    insta::assert_snapshot!(format!("{:#}", status(&sample(), Name::OWN)));
}

#[test]
fn shares_have_no_more_digits_than_they_mean() {
    for (used, want) in [(0.58 + f64::EPSILON, "0.58"), (0.123_456, "0.1235"), (1.0, "1.0")] {
        assert_eq!(json!(share(used)).to_string(), want);
    }
}

fn info(id: &str, state: ProfileState) -> ProfileInfo {
    let id = ProfileId::parse(id).unwrap();
    ProfileInfo {
        provider: ProviderId::parse(id.provider_part().unwrap()).unwrap(),
        kind: CredentialKind::OAuth,
        owner: AgentId::main(),
        inherited: false,
        label: format!("{id} (a@b.c)"),
        email: Some("a@b.c".to_owned()),
        expires: Some(NOW),
        bench: Some(Bench {
            kind: "disabled",
            reason: Some("billing".to_owned()),
            until: NOW,
        }),
        is_external: false,
        state,
        id,
    }
}

#[test]
fn profile_lists() {
    let profiles = [info("openai-codex:a@b.c", ProfileState::Refreshable)];
    let view = AuthListView {
        agent: "main",
        agent_dir: "/s/agents/main/agent".to_owned(),
        state_path: "/s/agents/main/agent/auth-state.json".to_owned(),
        provider: None,
        profiles: &profiles,
    };
    assert_eq!(
        auth_list(&view, Name::OWN),
        json!({
            "agentId": "main",
            "agentDir": "/s/agents/main/agent",
            "authStatePath": "/s/agents/main/agent/auth-state.json",
            "provider": null,
            "profiles": [{
                "id": "openai-codex:a@b.c",
                "provider": "openai-codex",
                "type": "oauth",
                "label": "openai-codex:a@b.c (a@b.c)",
                "email": "a@b.c",
                "expiresAt": "2026-11-21T05:05:00.000Z",
                "disabledUntil": "2026-11-21T05:05:00.000Z",
                "benchReason": "billing",
                "owner": "main",
                "inherited": false,
                "isExternal": false,
                "state": "refreshable",
            }],
        })
    );
    assert_eq!(
        channels(&profiles, &[]),
        json!({
            "chat": {},
            "auth": [{"id": "openai-codex:a@b.c", "provider": "openai-codex", "type": "oauth", "isExternal": false}],
        })
    );
    assert_eq!(channels(&[], &[]), json!({"chat": {}, "auth": []}));
}

#[test]
fn orders_and_agents() {
    let id = |text: &str| ProfileId::parse(text).unwrap();
    let mut view = OrderView {
        unavailable: None,
        agent: AgentId::main(),
        agent_dir: PathBuf::from("/s/agents/main/agent"),
        provider: ProviderId::parse("anthropic").unwrap(),
        state_path: PathBuf::from("/s/agents/main/agent/auth-state.json"),
        order: None,
        effective: vec![id("anthropic:a")],
    };
    assert_eq!(
        order(&view),
        json!({
            "agentId": "main",
            "agentDir": "/s/agents/main/agent",
            "provider": "anthropic",
            "authStatePath": "/s/agents/main/agent/auth-state.json",
            "order": null,
            "effective": ["anthropic:a"],
        })
    );
    view.order = Some(vec![id("anthropic:b"), id("anthropic:a")]);
    assert_eq!(order(&view)["order"], json!(["anthropic:b", "anthropic:a"]));

    let work = AgentInfo {
        id: AgentId::normalise("Work"),
        name: Some("Work".to_owned()),
        workspace: PathBuf::from("/w"),
        agent_dir: PathBuf::from("/a"),
        bindings: 0,
        is_default: false,
        model: None,
        inherits: true,
    };
    assert_eq!(
        agent(&work),
        json!({"id": "work", "name": "Work", "workspace": "/w", "agentDir": "/a", "bindings": 0, "isDefault": false,
            "inherits": true})
    );
    assert_eq!(
        agent_added(&AgentAdded {
            agent: work,
            bindings: BindReport {
                agent: AgentId::normalise("work"),
                added: vec!["telegram".to_owned()],
                updated: Vec::new(),
                skipped: Vec::new(),
                conflicts: Vec::new(),
            },
        }),
        json!({"agentId": "work", "name": "Work", "workspace": "/w", "agentDir": "/a",
            "bindings": {"added": ["telegram"], "updated": [], "skipped": [], "conflicts": []}})
    );
}

#[test]
fn leases_and_renewals() {
    let given = Spendable {
        profile: ProfileId::parse("rig:default").unwrap(),
        provider: ProviderId::parse("rig").unwrap(),
        owner: AgentId::main(),
        inherited: false,
        kind: CredentialKind::ApiKey,
        secret: Secret::new("sk-1"),
        expires: None,
        account: Account::default(),
        billing: BillingClass::Metered,
        base_url: Some("http://127.0.0.1/v1".to_owned()),
        headers: vec![("authorization".to_owned(), Secret::new("Bearer sk-1"))],
        betas: Betas::default(),
        env_name: Some("RIG_API_KEY".to_owned()),
        env_secret: None,
        source: "profile:rig:default".to_owned(),
    };
    let given = Lease {
        given: Arc::new(given),
        note: None,
        id: LeaseId::default(),
        model: None,
        crosses: None,
        why: "chosen",
        tests: false,
        issued: Issued::default(),
    };
    assert_eq!(
        lease(&given, NOW),
        json!({
            "profileId": "rig:default",
            "provider": "rig",
            "type": "api_key",
            "token": "sk-1",
            "owner": "main",
            "inherited": false,
            "billing": "metered",
            "baseUrl": "http://127.0.0.1/v1",
            "headers": {"authorization": "Bearer sk-1"},
            "envName": "RIG_API_KEY",
            "source": "profile:rig:default",
        })
    );
    let report = RenewReport {
        outcomes: vec![tokensink_sink::RenewOutcome {
            agent: AgentId::main(),
            profile: ProfileId::parse("rig:default").unwrap(),
            result: RenewResult::LoginNeeded {
                reason: "refused".to_owned(),
                command: "tokensink models auth login --provider rig".to_owned(),
            },
        }],
        unreadable: vec!["/s/agents/x cannot be read".to_owned()],
    };
    assert_eq!(
        renewals(&report, Name::of(Some("openclaw".as_ref()))),
        json!([{"agentId": "main", "profileId": "rig:default", "outcome": "login_needed", "reason": "refused",
            "fix": "openclaw models auth login --provider rig"},
            {"outcome": "failed", "reason": "/s/agents/x cannot be read"}])
    );
}
