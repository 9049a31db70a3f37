//! A user's launchd: the property list (launchd.plist(5)). Written and read back in tests on Linux only.

use super::{MARK, Parts};

/// The service's name.
const LABEL: &str = "dev.tokensink.serve";

/// The property list's file.
pub(super) fn file_name() -> String {
    format!("{LABEL}.plist")
}

/// The property list. Children outlive the service (`AbandonProcessGroup`): a refresh on its way is one.
pub(super) fn plist(parts: &Parts) -> String {
    let words: String = std::iter::once(&parts.program)
        .chain(&parts.args)
        .map(|word| format!("    <string>{}</string>\n", escaped(word)))
        .collect();
    let pair = |(name, value): &(String, String)| {
        format!(
            "    <key>{}</key>\n    <string>{}</string>\n",
            escaped(name),
            escaped(value)
        )
    };
    let variables: String = parts.variables.iter().map(pair).collect();
    format!(
        "\
<?xml version=\"1.0\" encoding=\"UTF-8\"?>
<!DOCTYPE plist PUBLIC \"-//Apple//DTD PLIST 1.0//EN\" \"http://www.apple.com/DTDs/PropertyList-1.0.dtd\">
<!-- {MARK}; run it again to change it. -->
<plist version=\"1.0\">
<dict>
  <key>Label</key>
  <string>{LABEL}</string>
  <key>ProgramArguments</key>
  <array>
{words}  </array>
  <key>EnvironmentVariables</key>
  <dict>
{variables}  </dict>
  <key>RunAtLoad</key>
  <true/>
  <key>KeepAlive</key>
  <dict>
    <key>SuccessfulExit</key>
    <false/>
  </dict>
  <key>ThrottleInterval</key>
  <integer>5</integer>
  <key>ExitTimeOut</key>
  <integer>{stop}</integer>
  <key>AbandonProcessGroup</key>
  <true/>
  <key>Umask</key>
  <integer>63</integer>
  <key>StandardOutPath</key>
  <string>{log}</string>
  <key>StandardErrorPath</key>
  <string>{log}</string>
</dict>
</plist>
",
        stop = parts.stop_time.as_secs(),
        log = escaped(&parts.log),
    )
}

/// The commands that start it.
pub(super) fn start(user: u32, path: &str) -> Vec<String> {
    vec![format!("launchctl bootstrap gui/{user} {path}")]
}

/// The commands that stop it.
pub(super) fn stop(user: u32) -> Vec<String> {
    vec![format!("launchctl bootout gui/{user}/{LABEL}")]
}

/// How launchd is asked.
pub(super) fn ask(user: u32) -> Vec<String> {
    vec!["print".to_owned(), format!("gui/{user}/{LABEL}")]
}

/// What it answered: the first line `state = …`.
pub(super) fn state(output: &str) -> Option<String> {
    let lines = output.lines().map(str::trim);
    lines
        .filter_map(|line| line.strip_prefix("state = "))
        .map(str::to_owned)
        .next()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
