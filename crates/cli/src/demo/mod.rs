//! `demo`: the promise of this program, shown on this machine in a few seconds.
//!
//! In a throw-away state directory, against a strict authorization server of its own, it logs in two accounts and lets
//! real processes of this program ask for tokens while tokens run out, processes are killed and the network is cut.
//! Every number that it prints is counted: by the server's books, by what the processes printed and how they ended,
//! and by the API, which is asked about every token. It knows nothing of how the sink does its work.

mod browser;
mod clock;
mod relay;
mod story;
mod tally;
mod tell;
mod world;

use std::io;
use std::path::{Path, PathBuf};

use tokensink_host::Host;
use tokensink_sink::{ErrorKind, SinkError};

use crate::args::DemoArgs;
use crate::exit::{FAILED, OK, Outcome};
use crate::printer::Printer;
use story::Story;
use tell::{Chapter, Ending};
use world::World;

pub(crate) use browser::visit;

/// What did not hold, or kept the demo from going on: one sentence for people.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Trouble(String);

impl Trouble {
    fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}

/// `demo`: exit code 0 when everything held, 1 when anything did not.
pub(crate) fn run(args: &DemoArgs, host: &Host, printer: &mut Printer) -> Outcome {
    let begun = host.clock.monotonic();
    let mut story = Story::new(World::open(host).map_err(|trouble| not_begun(&trouble))?);
    let told = play(&mut story, args, printer);
    let tally = story.world.tally();
    let mut world = story.world;
    world.end_servers();
    let (chapters, trouble) = match told {
        Ok(told) => told,
        Err(error) => {
            // Nobody reads any more; what is left to do is to leave nothing behind.
            let _unheard = world.remove();
            return Err(error.into());
        }
    };
    let counted = tally.problems(trouble.is_none());
    let problems: Vec<String> = trouble
        .map(|trouble| trouble.0)
        .into_iter()
        .chain(counted)
        .collect();
    let ending = Ending {
        time: host.clock.monotonic().saturating_sub(begun),
        tally,
        chapters,
        kept: leave(&world, args.keep || !problems.is_empty(), printer),
        on_path: is_on_path(host, printer.look.name.as_str()),
        problems,
    };
    if args.json {
        for problem in &ending.problems {
            printer.note(&format!("error: the demo did not hold: {problem}"));
        }
        printer.json(&tell::json(&ending))?;
    } else {
        let text = tell::ending(&ending, &printer.look);
        printer.data(&text)?;
    }
    Ok(if ending.problems.is_empty() { OK } else { FAILED })
}

/// Whether a shell finds a program of this name.
fn is_on_path(host: &Host, name: &str) -> bool {
    let path = host.env.var("PATH").unwrap_or_default();
    path.split(':')
        .filter(|dir| dir.starts_with('/'))
        .any(|dir| matches!(host.files.stat(&Path::new(dir).join(name)), Ok(Some(_))))
}

/// Removes the directory unless it is to be kept, and returns where it is if it is still there.
fn leave(world: &World, keep: bool, printer: &mut Printer) -> Option<PathBuf> {
    if !keep {
        match world.remove() {
            Ok(()) => return None,
            Err(error) => printer.note(&format!(
                "{} could not be removed: {error}",
                world.dir().display()
            )),
        }
    }
    Some(world.dir().to_owned())
}

/// Plays the steps in turn and tells each as it happens: on standard output, or with `--json` on standard error. Ends
/// early at the first trouble.
fn play(
    story: &mut Story,
    args: &DemoArgs,
    printer: &mut Printer,
) -> io::Result<(Vec<Chapter>, Option<Trouble>)> {
    let mut chapters = Vec::new();
    if !args.json {
        let text = tell::opening(story.world.dir(), &printer.look);
        printer.data(&text)?;
    }
    for (index, step) in story::STEPS.iter().enumerate() {
        let text = if args.json {
            printer.note(&format!("{}  {}", index + 1, step.title));
            String::new()
        } else {
            tell::heading(index + 1, step.title, &printer.look)
        };
        printer.data(&text)?;
        // What comes next takes a moment, and the reader should know which.
        printer.flush()?;
        let sentences = match (step.play)(story) {
            Ok(sentences) => sentences,
            Err(trouble) => return Ok((chapters, Some(trouble))),
        };
        if !args.json {
            let text = tell::sentences(&sentences, &printer.look);
            printer.data(&text)?;
        }
        chapters.push(Chapter {
            title: step.title,
            sentences,
        });
    }
    Ok((chapters, None))
}

fn not_begun(trouble: &Trouble) -> SinkError {
    SinkError::new(
        ErrorKind::Failed,
        "demo",
        format!("the demo could not begin: {}", trouble.0),
    )
}
