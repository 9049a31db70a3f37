//! What a plugin's program wants to know, asked in a terminal.

use std::fmt;

use inquire::{Confirm, Select};
use tokensink_sink::{PromptKind, PromptOption, Question, Secret};

use crate::secret_input;

/// Asks; `None` when there is no answer. `line` reads one line behind a prompt.
pub(super) fn ask(question: &Question<'_>, line: &dyn Fn(&str) -> Option<String>) -> Option<Secret> {
    // Who asks stands in front, so that a program cannot speak in our name.
    let text = format!("{} asks: {}", question.asker, question.text);
    match question.kind {
        PromptKind::Text => line(&text).map(Secret::new),
        PromptKind::Secret => secret_input::asked(&text),
        PromptKind::Confirm => {
            let yes = Confirm::new(&text).with_default(false).prompt().ok()?;
            Some(Secret::new(if yes { "yes" } else { "no" }))
        }
        PromptKind::Select => {
            let lines: Vec<Line<'_>> = question.options.iter().map(Line).collect();
            let Line(option) = Select::new(&text, lines).prompt().ok()?;
            Some(Secret::new(option.value.clone()))
        }
    }
}

/// A line of a menu.
struct Line<'a>(&'a PromptOption);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.label)
    }
}
