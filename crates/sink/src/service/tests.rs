use std::path::PathBuf;
use std::time::Duration;

use super::{ServiceManagerKind, ServiceRequest};
use crate::sink::Sink;
use crate::world::{STATE, World};

const UNIT: &str = "/home/user/.config/systemd/user/tokensink.service";

fn request(manager: ServiceManagerKind, program: &str, args: &[&str]) -> ServiceRequest {
    ServiceRequest {
        manager,
        program: Some(program.into()),
        args: args.iter().map(|&arg| arg.to_owned()).collect(),
        stop_time: Duration::from_secs(45),
    }
}

fn unit(sink: &Sink, program: &str, args: &[&str]) -> String {
    sink.service_plan(&request(ServiceManagerKind::Systemd, program, args))
        .unwrap()
        .text
}

#[test]
fn a_plan_writes_nothing_and_the_install_writes_what_was_planned() {
    let world = World::new();
    let sink = world.sink();
    for manager in ServiceManagerKind::ALL {
        let request = request(manager, "/usr/bin/tokensink", &["--port", "7000"]);
        let before = world.test.files.snapshot();
        let plan = sink.service_plan(&request).unwrap();
        assert_eq!(world.test.files.snapshot(), before);
        assert!(!sink.service_status(manager).unwrap().is_installed);
        assert_eq!(sink.service_uninstall(manager).unwrap(), None);
        assert_eq!(sink.service_install(&request).unwrap(), plan);
        assert_eq!(world.test.files.text(&plan.path), plan.text);
        assert_eq!(sink.service_install(&request).unwrap(), plan, "again");
        assert!(sink.service_status(manager).unwrap().is_installed);
        assert_eq!(sink.service_uninstall(manager).unwrap(), Some(plan.path.clone()));
        assert!(!world.test.files.snapshot().contains_key(&plan.path));
    }
}

#[test]
fn a_file_of_somebody_else_is_left_alone() {
    let world = World::new();
    world
        .test
        .files
        .put(UNIT, "[Service]\nExecStart=/bin/true\n", 0o644);
    let sink = world.sink();
    let error = sink
        .service_install(&request(ServiceManagerKind::Systemd, "/x", &[]))
        .unwrap_err();
    assert_eq!(
        (error.code(), error.fix().unwrap()),
        ("service_foreign", format!("mv {UNIT} {UNIT}.old").as_str())
    );
    assert_eq!(
        sink.service_uninstall(ServiceManagerKind::Systemd)
            .unwrap_err()
            .code(),
        "service_foreign"
    );
    assert_eq!(world.test.files.text(UNIT), "[Service]\nExecStart=/bin/true\n");
}

#[test]
fn words_are_quoted_as_systemd_reads_them() {
    let world = World::new();
    let sink = world.sink();
    let cases = [
        (
            "/usr/bin/tokensink",
            &["--port", "7465"][..],
            r#""/usr/bin/tokensink" serve --port 7465"#,
        ),
        ("/my apps/$x", &[], r#""/my apps/$$x" serve"#),
        (
            r#"/a"b\c%d"#,
            &["--host", "a b"],
            r#""/a\"b\\c%%d" serve --host "a b""#,
        ),
    ];
    for (program, args, want) in cases {
        let text = unit(&sink, program, args);
        assert!(text.contains(&format!("\nExecStart={want}\n")), "{text}");
    }
    let control = request(ServiceManagerKind::Systemd, "/a\nExecStart=/bin/evil", &[]);
    assert_eq!(sink.service_plan(&control).unwrap_err().code(), "bad_path");
}

#[test]
fn the_service_sees_what_the_command_saw_but_no_password() {
    let world = World::new();
    for (name, value) in [
        ("OPENCLAW_STATE_DIR", STATE),
        ("CODEX_HOME", "/home/user/c d"),
        ("HTTPS_PROXY", "http://me:secret-canary@proxy:8080"),
        ("NO_PROXY", "localhost"),
        ("ANTHROPIC_API_KEY", "sk-canary"),
    ] {
        world.test.env.set(name, value);
    }
    let sink = world.sink();
    for manager in ServiceManagerKind::ALL {
        let plan = sink.service_plan(&request(manager, "/t", &[])).unwrap();
        assert!(!plan.text.contains("canary"), "{}", plan.text);
        assert!(plan.notes[0].contains("HTTPS_PROXY"), "{:?}", plan.notes);
        for word in ["OPENCLAW_STATE_DIR", "/home/user/c d", "NO_PROXY"] {
            assert!(plan.text.contains(word), "{word} in {}", plan.text);
        }
    }
    let text = unit(&sink, "/t", &[]);
    assert!(
        text.contains("\nEnvironment=\"CODEX_HOME=/home/user/c d\"\n"),
        "{text}"
    );
    assert!(
        text.contains(&format!("\nReadWritePaths=\"{STATE}\"\n")),
        "{text}"
    );
}

#[test]
fn the_users_own_config_directory_counts_where_it_is_one() {
    let world = World::new();
    let sink = world.sink();
    for (value, want) in [
        ("/cfg", "/cfg/systemd/user/tokensink.service"),
        ("relative", UNIT),
    ] {
        world.test.env.set("XDG_CONFIG_HOME", value);
        let plan = sink
            .service_plan(&request(ServiceManagerKind::Systemd, "/t", &[]))
            .unwrap();
        assert_eq!(plan.path, PathBuf::from(want));
    }
}

#[test]
fn the_manager_is_asked_for_the_state() {
    let cases = [
        (ServiceManagerKind::Systemd, "active\n", Some("active")),
        (ServiceManagerKind::Systemd, "\n", None),
        (
            ServiceManagerKind::Launchd,
            "dev.x = {\n\tstate = running\n\tx = {\n\t\tstate = other\n",
            Some("running"),
        ),
        (ServiceManagerKind::Launchd, "Could not find service", None),
    ];
    for (manager, output, want) in cases {
        let world = World::new();
        world.test.processes.push_result(Ok(output.as_bytes().to_vec()));
        let status = world.sink().service_status(manager).unwrap();
        assert_eq!(status.state.as_deref(), want, "{output}");
        assert_eq!(status.unknown_because.is_some(), want.is_none(), "{output}");
    }
}

#[test]
fn a_property_list_escapes_what_xml_would_read() {
    let world = World::new();
    let plan = world
        .sink()
        .service_plan(&request(ServiceManagerKind::Launchd, "/a&b<c>", &["--port", "1"]))
        .unwrap();
    assert!(
        plan.text.contains("<string>/a&amp;b&lt;c&gt;</string>"),
        "{}",
        plan.text
    );
    let words = plan.text.matches("    <string>").count();
    assert_eq!(words, 4, "{}", plan.text);
}
