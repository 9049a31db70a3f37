//! Logins and refreshes against a strict authorization server.

use std::process::Command;
use std::sync::Arc;

use tokensink_authserver::{DeviceConfig, Endpoint, GrantType, Running, ServerConfig};
use tokensink_host::Host;

use crate::world::World;

/// A server, and a home that knows it as provider `rig`.
fn rig(config: ServerConfig) -> (World, Running) {
    let host = Host::real();
    let server = Running::start(config, Arc::clone(&host.clock), Arc::clone(&host.random)).unwrap();
    let world = World::new();
    world.write(
        ".openclaw/tokensink/providers/rig.toml",
        &server.provider_toml("rig"),
    );
    (world, server)
}

/// Where the browser would be sent; the user's approval is the server's default.
fn redirect_of(url: &str) -> String {
    let output = Command::new("curl")
        .args(["-s", "-o", "/dev/null", "-w", "%{redirect_url}", url])
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// A screen without its colours.
fn plain(screen: &str) -> String {
    let mut parts = screen.split("\u{1b}[");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| {
        text + part.split_once('m').map_or(part, |(_, rest)| rest)
    })
}

/// The address on a screen that is to be opened in a browser.
fn address_in(screen: &str) -> String {
    let screen = plain(screen);
    let word = screen
        .split_whitespace()
        .find(|word| word.contains("/oauth/authorize?"));
    word.unwrap_or_else(|| panic!("no address in {screen}"))
        .to_owned()
}

#[test]
fn a_browser_login_a_lease_and_one_refresh() {
    let (world, server) = rig(ServerConfig::default());
    // A browser that goes where it is sent, without anybody at a terminal.
    let browser = [("BROWSER", "curl -sL -o /dev/null")];
    let said = world
        .run_with(
            "openclaw models auth login --provider rig --set-default",
            None,
            &browser,
        )
        .code(0);
    assert!(said.out.starts_with("Auth profile: rig:alice@"), "{said:#?}");
    assert!(said.out.contains("Account: alice@"), "{said:#?}");
    assert!(
        said.out.contains("Default model set to rig/rig-small"),
        "{said:#?}"
    );

    let first = world.run("tokensink token --provider rig").code(0).out;
    assert_eq!(world.run("tokensink token --provider rig").code(0).out, first);
    assert_eq!(server.ledger().posts(GrantType::RefreshToken), 0);

    let later = [("TOKENSINK_CLOCK_OFFSET_SECONDS", "4000")];
    let value = world
        .run_with("tokensink models status --json", None, &later)
        .code(0)
        .json();
    assert_eq!(value["auth"]["oauth"]["profiles"][0]["state"], "refreshable");
    let second = world
        .run_with("tokensink token --provider rig", None, &later)
        .code(0)
        .out;
    assert_ne!(second, first);
    assert_eq!(
        world
            .run_with("tokensink token --provider rig", None, &later)
            .code(0)
            .out,
        second
    );
    assert_eq!(server.ledger().posts(GrantType::RefreshToken), 1);

    let renewed = world
        .run_with("tokensink renew --json", None, &later)
        .code(0)
        .json();
    assert_eq!(renewed[0]["outcome"], "not_due", "{renewed:#}");
}

#[test]
fn a_dead_grant_says_which_login_helps() {
    let (world, server) = rig(ServerConfig::default());
    let browser = [("BROWSER", "curl -sL -o /dev/null")];
    world
        .run_with("tokensink models auth login --provider rig", None, &browser)
        .code(0);
    assert_eq!(server.revoke_account("alice"), 1);
    let later = [("TOKENSINK_CLOCK_OFFSET_SECONDS", "4000")];
    let said = world
        .run_with("openclaw token --provider rig", None, &later)
        .code(3);
    assert!(said.err.contains("fix: openclaw models auth login"), "{said:#?}");
    let text = world.run_with("openclaw models status", None, &later).code(0).out;
    assert!(text.contains("login needed"), "{text}");
    assert!(text.contains("    fix: openclaw models auth login"), "{text}");
    world.run_with("openclaw renew", None, &later).code(3);
    // Nothing is sent again for a token that is known to be refused.
    assert_eq!(server.ledger().posts(GrantType::RefreshToken), 1);
}

#[test]
fn somebody_pastes_the_address_that_the_browser_ended_at() {
    let (world, _server) = rig(ServerConfig::default());
    let mut session = world.session("openclaw models auth login --provider rig --no-browser");
    let url = address_in(&session.wait_for("Paste"));
    session.type_in("http://127.0.0.1/auth/callback?code=another&state=another\r");
    session.wait_for("not taken:");
    session.type_in(&format!("{}\r", redirect_of(&url)));
    let said = session.finish().code(0);
    assert!(said.out.contains("Auth profile: rig:alice@"), "{said:#?}");
    world.run("tokensink token --provider rig").code(0);
}

#[test]
fn the_browser_ends_the_prompt() {
    let (world, _server) = rig(ServerConfig::default());
    let mut session = world.session("openclaw models auth login --provider rig --no-browser");
    let url = address_in(&session.wait_for("Paste"));
    let answered = Command::new("curl")
        .args(["-sL", "-o", "/dev/null", &url])
        .status()
        .unwrap();
    assert!(answered.success());
    let said = session.finish().code(0);
    assert!(said.out.contains("Auth profile: rig:alice@"), "{said:#?}");
}

#[test]
fn another_device_approves_a_code() {
    let (world, server) = rig(ServerConfig {
        device: DeviceConfig {
            interval_seconds: 1,
            ..DeviceConfig::default()
        },
        ..ServerConfig::default()
    });
    let mut session = world.session("openclaw models auth login --provider rig --device-code");
    let screen = plain(&session.wait_for("The code ends in "));
    let code = screen
        .lines()
        .find_map(|line| Some(line.split_once("enter       : ")?.1.trim().to_owned()))
        .unwrap();
    assert!(server.approve_device(&code, Some("bob")), "{code}");
    let said = session.finish().code(0);
    assert!(said.out.contains("Auth profile: rig:bob@"), "{said:#?}");
}

#[test]
fn logging_out_with_revoke_ends_the_grant() {
    let (world, server) = rig(ServerConfig::default());
    let browser = [("BROWSER", "curl -sL -o /dev/null")];
    let said = world
        .run_with("tokensink models auth login --provider rig", None, &browser)
        .code(0);
    let id = said.out.split_whitespace().nth(2).unwrap().to_owned();
    let said = world
        .run(&format!("tokensink models auth logout {id} --revoke"))
        .code(0);
    assert!(said.out.contains("Revoked at the provider."), "{said:#?}");
    assert!(server.ledger().requests_to(Endpoint::Revocation).count() >= 1);
    world.run("tokensink token --provider rig").code(3);
}
