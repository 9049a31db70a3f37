//! The examples of docs/secrets.md, run as they stand there against programs that behave like the real ones.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;

use crate::world::World;

const PAGE: &str = include_str!("../../../../docs/secrets.md");
const SECRET: &str = "sk-canary-kept-by-a-manager";

/// The first block of this language below a heading.
fn block(heading: &str, language: &str) -> &'static str {
    let (_, section) = PAGE
        .split_once(&format!("\n### {heading}\n"))
        .unwrap_or_else(|| panic!("no section {heading}"));
    let (_, rest) = section
        .split_once(&format!("```{language}\n"))
        .unwrap_or_else(|| panic!("no {language} under {heading}"));
    rest.split_once("```").unwrap().0
}

fn program(world: &World, path: &str, text: &str) {
    let path = world.write(path, text);
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// A home with the plain key that the examples move, the adapter, and a program in the place of `/usr/bin/<name>`
/// that prints `output` if it is called with `arguments` and sees `variable`, but nothing that was not named.
fn world(name: &str, arguments: &str, variable: &str, output: &str) -> World {
    let world = World::new();
    world
        .feed(
            "tokensink models auth paste-api-key --provider openrouter",
            SECRET,
        )
        .code(0);
    program(
        &world,
        ".local/bin/secret-adapter",
        block("One program for many secrets", "python"),
    );
    let script = format!(
        "#!/bin/sh\n[ \"$*\" = '{arguments}' ] && [ \"${variable}\" = given ] && [ -z \"$UNNAMED\" ] || exit 3\nprintf '{output}'\n"
    );
    program(&world, &format!("usr-bin/{name}"), &script);
    world
}

/// Applies the plan of a section and asks for the key.
#[track_caller]
fn works(world: &World, heading: &str, variable: &str) {
    let stand_ins = format!("{}/", world.path("usr-bin").display());
    let plan = block(heading, "json").replace("/usr/bin/", &stand_ins);
    world.write("plan.json", &plan);
    let variables = [(variable, "given"), ("UNNAMED", "canary")];
    let run = |line: &str| world.run_with(line, None, &variables).code(0);
    let dry = run("tokensink secrets apply --from plan.json --dry-run --allow-exec");
    assert!(dry.out.contains("nothing was written"), "{dry:#?}");
    let done = run("tokensink secrets apply --from plan.json --allow-exec");
    assert!(
        !done.out.contains("canary") && !done.err.contains("canary"),
        "{done:#?}"
    );
    for (path, text) in world.files() {
        assert!(!text.contains(SECRET), "{heading}: {}", path.display());
    }
    assert_eq!(
        run("tokensink token --provider openrouter").out.trim(),
        SECRET,
        "{heading}"
    );
    run("tokensink secrets audit --check --allow-exec");
}

#[test]
fn the_examples_of_the_page_work_as_they_stand() {
    let cases = [
        (
            "pass",
            "pass",
            "show openrouter/api-key",
            "PASSWORD_STORE_DIR",
            "%s\\nurl: https://example.com\\n",
        ),
        (
            "1Password",
            "op",
            "read op://Private/OpenRouter/credential",
            "OP_SERVICE_ACCOUNT_TOKEN",
            "%s\\n",
        ),
        (
            "Vault",
            "vault",
            "kv get -field=api_key secret/openrouter",
            "VAULT_ADDR",
            "%s",
        ),
        ("Bitwarden", "bw", "get password openrouter", "BW_SESSION", "%s"),
    ];
    for (heading, name, arguments, variable, output) in cases {
        let world = world(name, arguments, variable, &output.replace("%s", SECRET));
        works(&world, heading, variable);
        // Without what it needs, the program fails, and that is said without a secret.
        let said = world.run("tokensink token --provider openrouter").code(1);
        assert!(
            said.err.contains("gives no value") && said.err.contains("exit code 3"),
            "{said:#?}"
        );
    }
}

#[test]
fn the_file_of_the_page_works_as_it_stands() {
    let world = world("none", "", "NONE", "");
    let file = world.write(
        ".secrets/keys.json",
        &format!("{{\"openrouter\": {{\"api_key\": \"{SECRET}\"}}}}"),
    );
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600)).unwrap();
    works(&world, "A file", "NONE");
}

#[test]
fn the_page_names_every_key_code_and_default() {
    let plan: Value = serde_json::from_str(block("Vault", "json")).unwrap();
    assert_eq!(plan["version"], 1);
    for word in [
        "SECRETS_RELOADER_DEGRADED",
        "SECRETS_RELOADER_RECOVERED",
        "REF_SHADOWED",
        "PATH_CHECKS_OFF",
        "maxBatchBytes` (262144)",
        "noOutputTimeoutMs",
        "trustedDirs",
    ] {
        assert!(PAGE.contains(word), "{word}");
    }
}
