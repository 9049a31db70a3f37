//! Turning reports into text: pure functions of a report and a [`Look`].

pub(crate) mod audit;
pub(crate) mod chat;
pub(crate) mod colour;
pub(crate) mod conformance;
pub(crate) mod doctor;
pub(crate) mod explain;
pub(crate) mod external;
pub(crate) mod import;
pub(crate) mod json;
pub(crate) mod keys;
pub(crate) mod lists;
pub(crate) mod onboard;
pub(crate) mod plugins;
pub(crate) mod probe;
pub(crate) mod profile;
pub(crate) mod routing;
pub(crate) mod secrets;
pub(crate) mod serve;
pub(crate) mod service;
pub(crate) mod sessions;
pub(crate) mod status;
pub(crate) mod table;
pub(crate) mod words;

use std::path::Path;

use anstyle::Style;
use jiff::tz::TimeZone;

use crate::name::Name;

/// How text is to look.
#[derive(Debug, Clone)]
pub(crate) struct Look {
    /// The name that suggested commands carry.
    pub(crate) name: Name,
    /// Columns.
    pub(crate) width: usize,
    /// Whether escape sequences may be used.
    pub(crate) colour: bool,
    /// Where absolute times are.
    pub(crate) zone: Zone,
}

/// The time zone of absolute times.
#[derive(Debug, Clone)]
pub(crate) enum Zone {
    /// The system's, looked up when it is needed.
    System,
    /// A fixed one, for tests.
    #[cfg(test)]
    Fixed(TimeZone),
}

impl Zone {
    fn get(&self) -> TimeZone {
        match self {
            Self::System => TimeZone::system(),
            #[cfg(test)]
            Self::Fixed(zone) => zone.clone(),
        }
    }
}

impl Look {
    /// No colours, 80 columns, UTC.
    #[cfg(test)]
    pub(crate) fn plain(name: Name) -> Self {
        Self {
            name,
            width: 80,
            colour: false,
            zone: Zone::Fixed(TimeZone::UTC),
        }
    }

    /// `text` in `style`, or as it is where colours are off.
    pub(crate) fn paint(&self, style: Style, text: &str) -> String {
        if self.colour && !text.is_empty() {
            format!("{style}{text}{style:#}")
        } else {
            text.to_owned()
        }
    }
}

/// A path for people; what is not Unicode in it is replaced.
pub(crate) fn path(path: &Path) -> String {
    path.display().to_string()
}

/// A word that a shell takes as one.
pub(crate) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./+,@:".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}
