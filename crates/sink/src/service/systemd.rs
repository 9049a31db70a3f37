//! A user's systemd: the unit (systemd.service(5), systemd.exec(5)).
//!
//! The hardening is what a user's manager can do without privileges. `KillMode=process` because a refresh on its way
//! is a process of its own, which is let finish: killed, nobody would know whether the refresh token was spent.

use super::{MARK, Parts};

/// The unit's file and name.
pub(super) const NAME: &str = "tokensink.service";
/// How often the gateway gives a sign of life: half of this.
const WATCHDOG_SECONDS: u32 = 60;

/// The unit.
pub(super) fn unit(parts: &Parts) -> String {
    let mut command = vec![quoted(&parts.program)];
    command.extend(parts.args.iter().map(|arg| word(arg)));
    let variables: String = parts
        .variables
        .iter()
        .map(|(name, value)| {
            format!(
                "Environment={}\n",
                specifiers(&string(&format!("{name}={value}")))
            )
        })
        .collect();
    let writable: Vec<String> = parts
        .writable
        .iter()
        .map(|path| specifiers(&string(path)))
        .collect();
    format!(
        "\
# {MARK}; run it again to change it.
[Unit]
Description=tokensink gateway: model logins for local programs
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
ExecStart={command}
{variables}Restart=on-failure
RestartSec=2
RestartPreventExitStatus=2
WatchdogSec={WATCHDOG_SECONDS}
TimeoutStopSec={stop}
KillMode=process
UMask=0077
LimitNOFILE=16384
NoNewPrivileges=yes
ProtectSystem=strict
ReadWritePaths={writable}
PrivateTmp=yes
ProtectControlGroups=yes
ProtectKernelTunables=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
SystemCallArchitectures=native

[Install]
WantedBy=default.target
",
        command = command.join(" "),
        stop = parts.stop_time.as_secs(),
        writable = writable.join(" "),
    )
}

/// The commands that start it.
pub(super) fn start() -> Vec<String> {
    vec![
        "systemctl --user daemon-reload".to_owned(),
        format!("systemctl --user enable --now {NAME}"),
        "loginctl enable-linger  # lets it run while nobody is logged in".to_owned(),
    ]
}

/// The commands that stop it.
pub(super) fn stop() -> Vec<String> {
    vec![
        format!("systemctl --user disable --now {NAME}"),
        "systemctl --user daemon-reload".to_owned(),
    ]
}

/// How systemd is asked.
pub(super) fn ask() -> Vec<String> {
    ["--user", "show", "--property=ActiveState", "--value", NAME]
        .map(str::to_owned)
        .to_vec()
}

/// What it answered.
pub(super) fn state(output: &str) -> Option<String> {
    let state = output.trim();
    (!state.is_empty()).then(|| state.to_owned())
}

/// A word of a command line: `%` and `$` mean something there (systemd.service(5), COMMAND LINES).
fn quoted(text: &str) -> String {
    specifiers(&string(text)).replace('$', "$$")
}

/// The same, bare where it may be.
fn word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        quoted(text)
    }
}

fn string(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn specifiers(text: &str) -> String {
    text.replace('%', "%%")
}
