//! How the demo is told: pure functions of what happened and of how text is to look.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use super::tally::Tally;
use crate::render::table::wrap;
use crate::render::{Look, colour, path, quoted};

/// Where text stands under a heading.
const INDENT: &str = "   ";
/// Lines are no longer than this, however wide the terminal is: prose reads badly otherwise.
const WIDTH_MAX: usize = 80;

/// A step that was played.
#[derive(Debug, Clone)]
pub(super) struct Chapter {
    /// Its heading.
    pub(super) title: &'static str,
    /// What came of it.
    pub(super) sentences: Vec<String>,
}

/// The whole demo, once it is over.
#[derive(Debug, Clone)]
pub(super) struct Ending {
    /// How long it took.
    pub(super) time: Duration,
    /// What was counted.
    pub(super) tally: Tally,
    /// What happened.
    pub(super) chapters: Vec<Chapter>,
    /// What did not hold.
    pub(super) problems: Vec<String>,
    /// Where the state directory is, if it was kept.
    pub(super) kept: Option<PathBuf>,
    /// The program is found by its name.
    pub(super) on_path: bool,
}

/// What is about to happen.
pub(super) fn opening(dir: &Path, look: &Look) -> String {
    let mut text = format!("{}\n", look.paint(colour::HEADING, "The tokensink demo"));
    paragraph(
        &mut text,
        "",
        "Real processes of this program share two logins at a login server that forgives nothing: every refresh \
         token works once, and a second use ends the login. Clocks are moved, so that nobody has to wait. \
         Nothing of yours is read or changed; everything happens in",
        look,
    );
    text.push_str(&format!("{INDENT}{}\n", look.paint(colour::FAINT, &path(dir))));
    text
}

/// The heading of a step, before it is played.
pub(super) fn heading(number: usize, title: &str, look: &Look) -> String {
    let mut text = String::from("\n");
    let width = look.width.min(WIDTH_MAX) - INDENT.len();
    for (line, part) in wrap(title, width).iter().enumerate() {
        let label = if line == 0 {
            format!("{number}  ")
        } else {
            INDENT.to_owned()
        };
        text.push_str(&format!(
            "{}\n",
            look.paint(colour::HEADING, &format!("{label}{part}"))
        ));
    }
    text
}

/// What came of a step.
pub(super) fn sentences(sentences: &[String], look: &Look) -> String {
    let mut text = String::new();
    for sentence in sentences {
        paragraph(&mut text, INDENT, sentence, look);
    }
    text
}

/// Counts, verdict and what to do next.
pub(super) fn ending(ending: &Ending, look: &Look) -> String {
    let mut text = format!("\n{}\n", look.paint(colour::HEADING, "What was counted"));
    for (name, count, remark) in counts(&ending.tally) {
        let count = format!("{INDENT}{name:<20}{count:>5}   ");
        let line = count + &look.paint(colour::FAINT, remark);
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text.push('\n');
    if ending.problems.is_empty() {
        let time = ending.time.as_secs_f64();
        text.push_str(&look.paint(colour::GOOD, &format!("Everything held, in {time:.1} seconds.")));
        text.push_str("\nOne refresh for each expiry, and no refresh token was sent twice.\n");
    } else {
        text.push_str(&look.paint(colour::BAD, "Not everything held:"));
        text.push('\n');
        for problem in &ending.problems {
            paragraph(&mut text, INDENT, problem, look);
        }
    }
    if let Some(dir) = &ending.kept {
        text.push_str(&kept(dir, look));
    }
    if ending.problems.is_empty() {
        text.push_str(&next(ending.on_path, look));
    }
    text
}

/// Name, count and where the count comes from.
fn counts(tally: &Tally) -> [(&'static str, u64, &'static str); 7] {
    [
        ("processes started", tally.processes, ""),
        ("killed", tally.killed, "with SIGKILL, before they could print"),
        ("told to try again", tally.put_off, "while the network was cut"),
        (
            "tokens printed",
            tally.tokens,
            "the API took each when it was printed",
        ),
        (
            "expiries",
            tally.expiries,
            "the API refused a token that it had taken before",
        ),
        ("refreshes", tally.refreshes, "by the login server's books"),
        (
            "reuses",
            tally.reuses,
            "refresh tokens that came twice, by its books",
        ),
    ]
}

/// Where things are, and how to look at them and be rid of them.
fn kept(dir: &Path, look: &Look) -> String {
    let (name, dir) = (look.name.as_str(), quoted(&path(dir)));
    let commands = [
        format!("OPENCLAW_STATE_DIR={dir} {name} models status"),
        format!("rm -r {dir}"),
    ];
    let mut text = "\nThe state directory was kept; to look around, and to remove it:\n".to_owned();
    for command in commands {
        text.push_str(&format!("{INDENT}{}\n", look.paint(colour::COMMAND, &command)));
    }
    text
}

/// What to do next.
fn next(on_path: bool, look: &Look) -> String {
    let name = look.name.as_str();
    let own = |command: &str| format!("{name} {command}");
    let mut steps = vec![
        (own("models auth login --provider openai-codex"), "log in"),
        (own("models status"), "how your logins are"),
        (own("token --provider openai-codex"), "a token for a script"),
        (own("providers list"), "whom it knows"),
    ];
    if !on_path {
        steps.insert(
            0,
            (
                "cargo install --path crates/cli".to_owned(),
                "have it on your PATH",
            ),
        );
    }
    let mut text = format!("\n{}\n", look.paint(colour::HEADING, "What to do next"));
    let width = steps.iter().map(|(command, _)| command.len()).max().unwrap_or(0);
    for (command, purpose) in steps {
        let command = look.paint(colour::COMMAND, &format!("{command:<width$}"));
        text.push_str(&format!(
            "{INDENT}{command}   {}\n",
            look.paint(colour::FAINT, purpose)
        ));
    }
    text
}

/// The whole demo as an object.
pub(super) fn json(ending: &Ending) -> Value {
    let steps: Vec<Value> = ending
        .chapters
        .iter()
        .map(|chapter| json!({"title": chapter.title, "outcome": chapter.sentences}))
        .collect();
    json!({
        "ok": ending.problems.is_empty(),
        "seconds": (ending.time.as_secs_f64() * 10.0).round() / 10.0,
        "counts": ending.tally.json(),
        "steps": steps,
        "problems": ending.problems,
        "stateDir": ending.kept.as_deref().map(path),
    })
}

fn paragraph(text: &mut String, indent: &str, words: &str, look: &Look) {
    for line in wrap(words, look.width.min(WIDTH_MAX) - indent.len()) {
        text.push_str(&format!("{indent}{line}\n"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::Name;

    fn sample() -> Ending {
        Ending {
            time: Duration::from_millis(6_249),
            tally: Tally {
                processes: 149,
                killed: 16,
                put_off: 8,
                tokens: 117,
                expiries: 5,
                refreshes: 5,
                refresh_requests: 5,
                reuses: 0,
                revocations: 0,
            },
            chapters: vec![Chapter {
                title: "Something happens",
                sentences: vec!["It went well.".to_owned()],
            }],
            problems: Vec::new(),
            kept: None,
            on_path: true,
        }
    }

    #[test]
    fn the_end_of_a_good_demo() {
        let text = ending(&sample(), &Look::plain(Name::OWN));
        assert_eq!(
            text,
            "\n\
What was counted
   processes started     149
   killed                 16   with SIGKILL, before they could print
   told to try again       8   while the network was cut
   tokens printed        117   the API took each when it was printed
   expiries                5   the API refused a token that it had taken before
   refreshes               5   by the login server's books
   reuses                  0   refresh tokens that came twice, by its books

Everything held, in 6.2 seconds.
One refresh for each expiry, and no refresh token was sent twice.

What to do next
   tokensink models auth login --provider openai-codex   log in
   tokensink models status                               how your logins are
   tokensink token --provider openai-codex               a token for a script
   tokensink providers list                              whom it knows
"
        );
    }

    #[test]
    fn the_end_of_a_bad_demo() {
        let bad = Ending {
            tally: Tally {
                reuses: 1,
                ..sample().tally
            },
            problems: vec!["refresh tokens that were sent again after they were spent: 1".to_owned()],
            kept: Some("/tmp/a b".into()),
            ..sample()
        };
        let text = ending(&bad, &Look::plain(Name::OWN));
        assert_eq!(
            text,
            "\n\
What was counted
   processes started     149
   killed                 16   with SIGKILL, before they could print
   told to try again       8   while the network was cut
   tokens printed        117   the API took each when it was printed
   expiries                5   the API refused a token that it had taken before
   refreshes               5   by the login server's books
   reuses                  1   refresh tokens that came twice, by its books

Not everything held:
   refresh tokens that were sent again after they were spent: 1

The state directory was kept; to look around, and to remove it:
   OPENCLAW_STATE_DIR='/tmp/a b' tokensink models status
   rm -r '/tmp/a b'
"
        );
        let value = json(&bad);
        assert_eq!(value["ok"], false);
        assert_eq!(value["stateDir"], "/tmp/a b");
        assert_eq!(value["counts"]["reuses"], 1);
        assert!(next(false, &Look::plain(Name::OWN)).contains("cargo install"));
        assert_eq!(value["steps"][0]["outcome"][0], "It went well.");
    }

    #[test]
    fn lines_fit_and_colours_are_only_where_they_are_wanted() {
        let kept = Ending {
            kept: Some("/tmp/x".into()),
            ..sample()
        };
        for width in [40, 80, 200] {
            let look = Look {
                width,
                ..Look::plain(Name::OWN)
            };
            let told = [
                opening(Path::new("/tmp/x"), &look),
                heading(
                    1,
                    "A title that is rather long and goes on and on, as titles do, to no end",
                    &look,
                ),
                sentences(&["word ".repeat(40)], &look),
            ];
            for line in told.iter().flat_map(|text| text.lines()) {
                assert!(line.len() <= width.min(WIDTH_MAX), "{line}");
            }
            let plain = ending(&kept, &look);
            assert!(plain.lines().all(|line| line.len() <= 80), "{plain}");
            assert!(!plain.contains('\u{1b}'));
            let look = Look { colour: true, ..look };
            assert!(ending(&kept, &look).contains('\u{1b}'));
        }
    }
}
