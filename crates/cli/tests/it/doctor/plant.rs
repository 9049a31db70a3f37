//! A healthy home, and the faults that are planted into it.

use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tokensink_authserver::{Fault as ServerFault, FaultAction, ServerConfig};

use crate::support::stage::{Stage, add_profile, run_at, stored};
use crate::world::{API_KEY, Said};

/// One fault of the data file.
pub(super) struct Fault {
    pub(super) id: String,
    what: String,
    pub(super) fix: String,
    pub(super) root: bool,
    net: bool,
    clock: i64,
    env: BTreeMap<String, String>,
    steps: Vec<toml::Table>,
}

impl Fault {
    /// No fault: what a healthy home is looked at with.
    pub(super) fn none() -> Self {
        Self {
            id: String::new(),
            what: String::new(),
            fix: String::new(),
            root: false,
            net: false,
            clock: 0,
            env: BTreeMap::new(),
            steps: Vec::new(),
        }
    }

    /// Its name in messages.
    pub(super) fn name(&self) -> String {
        format!("{} ({})", self.id, self.what)
    }
}

/// Reads the data file. Every key must be known.
pub(super) fn parse(text: &str) -> Vec<Fault> {
    let file: toml::Table = text.parse().unwrap();
    let list = file["fault"].as_array().unwrap();
    list.iter()
        .map(|fault| {
            let mut fault = fault.as_table().unwrap().clone();
            let mut text = |key: &str| fault.remove(key).map(|value| value.as_str().unwrap().to_owned());
            let (id, what, fix) = (text("id").unwrap(), text("what"), text("fix").unwrap());
            let flag = |value: Option<toml::Value>| value.is_some_and(|value| value.as_bool().unwrap());
            let (root, net) = (flag(fault.remove("root")), flag(fault.remove("net")));
            let clock = fault
                .remove("clock")
                .map_or(0, |clock| clock.as_integer().unwrap());
            let env = fault.remove("env").map(|env| env.try_into().unwrap());
            let steps = fault.remove("steps").map(|steps| steps.try_into().unwrap());
            assert!(fault.is_empty(), "unknown keys {fault:?}");
            Fault {
                id,
                what: what.unwrap_or_default(),
                fix,
                root,
                net,
                clock,
                env: env.unwrap_or_default(),
                steps: steps.unwrap_or_default(),
            }
        })
        .collect()
}

/// A home with logins of every kind, and nothing wrong with it.
pub(super) struct Home {
    pub(super) stage: Stage,
    stopped: bool,
    live: String,
    refreshes: Vec<String>,
}

impl Home {
    pub(super) fn new() -> Self {
        let stage = Stage::new(ServerConfig::default());
        let world = &stage.world;
        let (_, live) = stage.store(world, "main", "rig:alice", "alice", 3_600);
        let (_, other) = stage.store(world, "work", "rig:bob", "bob", 3_600);
        let work = json!({"type": "token", "provider": "anthropic", "token": "sk-ant-oat01-work-canary"});
        add_profile(world, "main", "anthropic:work", work);
        let key = json!({"type": "api_key", "provider": "openrouter", "key": API_KEY});
        add_profile(world, "main", "openrouter:default", key);
        let config = json!({"auth": {
            "profiles": {
                "rig:alice": {"provider": "rig", "mode": "oauth", "email": "alice@example.com"},
                "rig:bob": {"provider": "rig", "mode": "oauth"},
                "anthropic:work": {"provider": "anthropic", "mode": "token"},
                "anthropic:claude-cli": {"provider": "anthropic", "mode": "oauth"},
                "openrouter:default": {"provider": "openrouter", "mode": "api_key"},
            },
            "order": {"rig": ["rig:alice", "rig:bob"]},
        }});
        world.write(".openclaw/openclaw.json", &format!("{config:#}\n"));
        let state = json!({"version": 1, "order": {"rig": ["rig:alice"]}, "lastGood": {"rig": "rig:alice"}});
        world.write(
            ".openclaw/agents/main/agent/auth-state.json",
            &format!("{state:#}\n"),
        );
        close(&world.state(""));
        Self {
            refreshes: vec![live.clone(), other],
            live,
            stopped: false,
            stage,
        }
    }

    /// Runs the doctor with the fault's environment.
    pub(super) fn doctor(&self, fault: &Fault, options: &str) -> Said {
        let net = if fault.net { " --net" } else { "" };
        let line = format!("tokensink doctor {options}{net}");
        let mut variables: Vec<(String, String)> = fault
            .env
            .iter()
            .map(|(name, value)| (name.clone(), self.filled(value)))
            .collect();
        variables.push((
            "TOKENSINK_CLOCK_OFFSET_SECONDS".to_owned(),
            fault.clock.to_string(),
        ));
        let variables: Vec<(&str, &str)> = variables
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        self.stage
            .world
            .run_with(line.replace("  ", " ").trim_end(), None, &variables)
    }

    /// Everything that must not be printed, planted secrets included.
    pub(super) fn secrets(&self) -> Vec<String> {
        let mut secrets = vec![API_KEY.to_owned()];
        secrets.extend(self.refreshes.clone());
        for agent in ["main", "work"] {
            for id in ["rig:alice", "rig:bob", "anthropic:work"] {
                if std::fs::read_to_string(self.store(agent)).is_ok_and(|text| text.ends_with("}\n")) {
                    let entry = stored(&self.stage.world, agent, id);
                    let texts =
                        ["access", "refresh", "token"].map(|field| entry[field].as_str().map(str::to_owned));
                    secrets.extend(texts.into_iter().flatten());
                }
            }
        }
        let planted = [
            "pasted-code-canary",
            "sk-or-untidy-canary",
            "sk-or-spaced",
            "shadow-canary",
            "proxy-password-canary",
            "half-written-tok",
        ];
        secrets.extend(planted.map(str::to_owned));
        secrets
    }

    /// Every grant is still somewhere below the state directory.
    pub(super) fn assert_nothing_lost(&self, name: &str) {
        let texts: Vec<String> = self
            .stage
            .world
            .files()
            .into_iter()
            .map(|(_, text)| text)
            .collect();
        let spent = self.stage.server.ledger().refreshes > 0;
        for refresh in &self.refreshes {
            let kept = texts.iter().any(|text| text.contains(refresh.as_str()));
            assert!(
                kept || spent || name.contains("store-unreadable"),
                "{name}: a grant is gone"
            );
        }
    }

    fn store(&self, agent: &str) -> PathBuf {
        self.stage
            .world
            .state(&format!("agents/{agent}/agent/auth-profiles.json"))
    }

    fn filled(&self, text: &str) -> String {
        let home = self.stage.world.path("");
        text.replace("{live}", &self.live)
            .replace("{home}", home.to_str().unwrap().trim_end_matches('/'))
    }

    /// Does what the fault's steps say.
    pub(super) fn plant(&mut self, fault: &Fault) {
        for step in &fault.steps {
            let mut step = Step(step.clone());
            self.step(&mut step);
            assert!(step.0.is_empty(), "{}: unknown keys {:?}", fault.name(), step.0);
        }
        if self.stopped {
            let definition = self.stage.server.provider_toml("rig");
            let port = definition.split("127.0.0.1:").nth(1).unwrap();
            let port: String = port.chars().take_while(char::is_ascii_digit).collect();
            // A port of this machine on which nobody listens.
            let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let free = nobody.local_addr().unwrap().port().to_string();
            drop(nobody);
            self.write(
                &self.stage.world.state("tokensink/providers/rig.toml"),
                &definition.replace(&port, &free),
            );
        }
    }

    fn step(&mut self, step: &mut Step) {
        let world = &self.stage.world;
        if let Some(path) = step.text("write") {
            let path = world.path(&path);
            let text = self.filled(&step.text("text").unwrap_or_default());
            let text = if text.contains("{dead}") {
                text.replace("{dead}", &dead_pid().to_string())
            } else {
                text
            };
            self.write(&path, &text);
            step.age(&path);
        } else if let Some(path) = step.text("mkdir") {
            let path = world.path(&path);
            std::fs::create_dir_all(&path).unwrap();
            close(&path);
            close(path.parent().unwrap());
            step.age(&path);
        } else if let Some(path) = step.text("chmod") {
            let mode = u32::from_str_radix(&step.text("mode").unwrap(), 8).unwrap();
            for path in step.each(&world.path(&path)) {
                std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
            }
        } else if let Some(path) = step.text("chown") {
            let user = u32::try_from(step.0.remove("user").unwrap().as_integer().unwrap()).unwrap();
            for path in step.each(&world.path(&path)) {
                std::os::unix::fs::lchown(path, Some(user), None).unwrap();
            }
        } else if let Some(path) = step.text("remove") {
            std::fs::remove_file(world.path(&path)).unwrap();
        } else if let Some(path) = step.text("link") {
            symlink(step.text("to").unwrap(), world.path(&path)).unwrap();
        } else if let Some(path) = step.text("rename") {
            std::fs::rename(world.path(&path), world.path(&step.text("to").unwrap())).unwrap();
        } else if let Some(path) = step.text("cut") {
            let bytes = step.0.remove("bytes").unwrap().as_integer().unwrap();
            let file = std::fs::OpenOptions::new()
                .write(true)
                .open(world.path(&path))
                .unwrap();
            file.set_len(u64::try_from(bytes).unwrap()).unwrap();
        } else if let Some(path) = step.text("json") {
            let (at, value) = (step.text("at").unwrap(), step.text("value"));
            let value = value.map(|value| serde_json::from_str(&self.filled(&value)).unwrap());
            edit_json(&world.path(&path), &at, value);
        } else {
            self.act(step);
        }
    }

    fn act(&mut self, step: &mut Step) {
        if let Some(line) = step.text("run") {
            let number =
                |step: &mut Step, key: &str| step.0.remove(key).map_or(0, |n| n.as_integer().unwrap());
            let (clock, code) = (number(step, "clock"), number(step, "code"));
            let said = run_at(&self.stage.world, &line, clock);
            assert_eq!(i64::from(said.code), code, "{said:#?}");
            crate::support::processes::wait_for_landing(&self.stage.world);
        } else if step.0.remove("refuse").is_some() {
            let refusal = FaultAction::Status {
                status: 400,
                body: r#"{"error":"invalid_grant"}"#.to_owned(),
            };
            self.stage
                .server
                .faults()
                .push(ServerFault::on_refresh(refusal).times(10));
        } else if step.0.remove("stop").is_some() {
            self.stopped = true;
        }
    }

    fn write(&self, path: &Path, text: &str) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        let mut dir = path.parent().unwrap();
        while dir != self.stage.world.path("").as_path() && dir.parent().is_some() {
            std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700)).unwrap();
            dir = dir.parent().unwrap();
        }
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
}

/// One step; what is understood is taken out.
struct Step(toml::Table);

impl Step {
    fn text(&mut self, key: &str) -> Option<String> {
        Some(self.0.remove(key)?.as_str().unwrap().to_owned())
    }

    fn age(&mut self, path: &Path) {
        if let Some(age) = self.0.remove("age") {
            let age = Duration::from_secs(u64::try_from(age.as_integer().unwrap()).unwrap());
            let file = std::fs::File::open(path).unwrap();
            file.set_modified(SystemTime::now() - age).unwrap();
        }
    }

    /// The path, or with `each` all below it.
    fn each(&mut self, path: &Path) -> Vec<PathBuf> {
        let deep = self.0.remove("each").is_some();
        if deep { below(path) } else { vec![path.to_owned()] }
    }
}

/// A directory and all below it; a directory of files only without itself when it is a journal.
fn below(path: &Path) -> Vec<PathBuf> {
    if !path.is_dir() {
        return vec![path.to_owned()];
    }
    let mut all: Vec<PathBuf> = std::fs::read_dir(path)
        .unwrap()
        .flat_map(|entry| below(&entry.unwrap().path()))
        .collect();
    if !path.ends_with("journal") {
        all.push(path.to_owned());
    }
    all
}

/// Sets the modes that a careful program would have set.
fn close(path: &Path) {
    let mode = if path.is_dir() { 0o700 } else { 0o600 };
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    if path.is_dir() {
        for entry in std::fs::read_dir(path).unwrap() {
            let path = entry.unwrap().path();
            if path.exists() && !path.is_symlink() {
                close(&path);
            }
        }
    }
}

/// Sets the value at a JSON pointer, or removes it. The last part of the pointer may be new.
fn edit_json(path: &Path, at: &str, value: Option<Value>) {
    let mut document: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let (parent, last) = at.rsplit_once('/').unwrap();
    if document.pointer(parent).is_none() {
        let (above, name) = parent.rsplit_once('/').unwrap();
        document.pointer_mut(above).unwrap()[name] = json!({});
    }
    let parent = document.pointer_mut(parent).unwrap().as_object_mut().unwrap();
    match value {
        Some(value) => {
            parent.insert(last.to_owned(), value);
        }
        None => {
            parent.remove(last).unwrap();
        }
    }
    std::fs::write(path, format!("{document:#}\n")).unwrap();
}

/// The pid of a process that has ended.
fn dead_pid() -> u32 {
    let mut child = Command::new("/bin/true").spawn().unwrap();
    let pid = child.id();
    child.wait().unwrap();
    pid
}
