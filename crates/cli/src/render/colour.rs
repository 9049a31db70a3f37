//! When colours are used, and which.

use anstyle::{AnsiColor, Style};
use tokensink_host::Environment;

/// Headings.
pub(crate) const HEADING: Style = Style::new().bold();
/// What can be used.
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
/// What will need attention.
pub(crate) const WARN: Style = AnsiColor::Yellow.on_default();
/// What cannot be used.
pub(crate) const BAD: Style = AnsiColor::Red.on_default();
/// What matters less.
pub(crate) const FAINT: Style = Style::new().dimmed();
/// A command to type.
pub(crate) const COMMAND: Style = AnsiColor::Cyan.on_default();

/// Colours on a stream: never with `NO_COLOR` (no-color.org), always with `CLICOLOR_FORCE` other than 0, else on a
/// terminal that is not `dumb`.
pub(crate) fn wanted(env: &dyn Environment, terminal: bool) -> bool {
    if env.var("NO_COLOR").is_some() {
        return false;
    }
    if env.var("CLICOLOR_FORCE").is_some_and(|value| value != "0") {
        return true;
    }
    terminal && env.var("TERM").is_none_or(|term| term != "dumb")
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    type Pairs = &'static [(&'static str, &'static str)];

    #[derive(Debug)]
    struct Vars(Pairs);

    impl Environment for Vars {
        fn var(&self, name: &str) -> Option<String> {
            let (_, value) = self.0.iter().find(|(key, _)| *key == name)?;
            Some((*value).to_owned())
        }
        fn names(&self) -> Vec<String> {
            Vec::new()
        }
        fn home(&self) -> Option<PathBuf> {
            None
        }
        fn current_dir(&self) -> Option<PathBuf> {
            None
        }
    }

    #[test]
    fn colours_obey_the_environment() {
        let cases: [(Pairs, bool, bool); 7] = [
            (&[], true, true),
            (&[], false, false),
            (&[("NO_COLOR", "1")], true, false),
            (&[("TERM", "dumb")], true, false),
            (&[("CLICOLOR_FORCE", "1")], false, true),
            (&[("CLICOLOR_FORCE", "0")], false, false),
            (&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")], true, false),
        ];
        for (vars, terminal, want) in cases {
            assert_eq!(wanted(&Vars(vars), terminal), want, "{vars:?} {terminal}");
        }
    }
}
