//! Codex' `config.toml`: a model provider of ours whose credential is printed by a command (clients.md 2.6 a).

use tokensink_types::{Body, Secret};
use toml_edit::{Array, DocumentMut, InlineTable, Item, Table, Value, value};

use super::{Settings, Wanted, WireRequest};

/// How long Codex waits for the command, in milliseconds: a refresh may be under way, and its request may take 60 s.
const TIMEOUT_MS: i64 = 65_000;
/// For how long Codex keeps what it was given, in milliseconds: as long as every lease is good for.
const REFRESH_INTERVAL_MS: i64 = 300_000;

/// The settings as a document that keeps its layout.
pub(super) struct CodexSettings {
    document: DocumentMut,
    /// The line ends of the file, which the document spells as `\n`.
    ends: &'static str,
}

impl CodexSettings {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        // The library's message quotes the line, which may hold a secret.
        let document = text.parse::<DocumentMut>().map_err(|error| {
            let before = error.span().and_then(|span| text.get(..span.start));
            let line = before.map_or(1, |before| before.matches('\n').count() + 1);
            format!("it is no TOML: {} (line {line})", error.message())
        })?;
        let survives = |ends: &&'static str| {
            let again = Self {
                document: document.clone(),
                ends,
            };
            let again = again.spelled();
            again == text || again.strip_suffix(*ends) == Some(text)
        };
        match ["\n", "\r\n"].into_iter().find(survives) {
            Some(ends) => Ok(Self { document, ends }),
            None => Err(
                "its line ends are mixed, or it begins with a byte order mark, which would not survive an edit; \
                 convert it (dos2unix)"
                    .to_owned(),
            ),
        }
    }

    fn spelled(&self) -> String {
        let text = self.document.to_string();
        if self.ends == "\n" {
            text
        } else {
            text.replace('\n', self.ends)
        }
    }
}

impl Settings for CodexSettings {
    fn get(&self, path: &[&str]) -> Option<Secret> {
        let (first, rest) = path.split_first()?;
        let item = rest
            .iter()
            .try_fold(self.document.get(first)?, |item, key| item.get(key))?;
        Some(spelled(item))
    }

    fn set(&mut self, path: &[&str], text: &Secret) -> Result<(), String> {
        if self.get(path).as_ref() == Some(text) {
            return Ok(());
        }
        let (key, parents) = path.split_last().ok_or("an empty path cannot be set")?;
        let mut table = self.document.as_table_mut();
        for parent in parents {
            let made = || {
                let mut made = Table::new();
                made.set_implicit(true);
                Item::Table(made)
            };
            let item = table.entry(parent).or_insert_with(made);
            table = item
                .as_table_mut()
                .ok_or_else(|| format!("{parent} is no table of its own; write it as [{parent}]"))?;
        }
        let mut item = read(text)?;
        match table.get(key) {
            Some(Item::Table(_) | Item::ArrayOfTables(_)) if item.is_value() => {
                return Err(format!(
                    "{key} is a table, and Codex wants a text there; correct it"
                ));
            }
            // It would come back under a heading of its own.
            Some(Item::Table(old)) if old.is_dotted() => {
                return Err(format!(
                    "{key} is written with dots; write it as [{}]",
                    path.join(".")
                ));
            }
            _ => {}
        }
        if let (Some(new), Some(old)) = (item.as_value_mut(), table.get(key).and_then(Item::as_value)) {
            // A comment behind the value stays behind it.
            *new.decor_mut() = old.decor().clone();
        }
        match table.get_mut(key) {
            Some(there) => *there = item,
            None => {
                table.insert(key, item);
            }
        }
        Ok(())
    }

    fn remove(&mut self, path: &[&str], keep: usize) -> Result<(), String> {
        let (key, parents) = path.split_last().ok_or("an empty path cannot be removed")?;
        let mut table = self.document.as_table_mut();
        for parent in parents {
            match table.get_mut(parent).and_then(Item::as_table_mut) {
                Some(inner) => table = inner,
                None => return Ok(()),
            }
        }
        table.remove(key);
        if parents.len() > keep && table.is_empty() {
            return self.remove(parents, keep);
        }
        Ok(())
    }

    fn text(&self) -> Body {
        Body::new(self.spelled())
    }

    fn is_empty(&self) -> bool {
        self.document.as_table().is_empty()
    }
}

/// A value alone, or a table as a document of its own, without comments and layout.
fn spelled(item: &Item) -> Secret {
    let plain = match item {
        Item::Table(table) => {
            let mut document = DocumentMut::new();
            *document.as_table_mut() = bare(table);
            return Secret::new(document.to_string());
        }
        Item::Value(value) => value.clone().decorated("", ""),
        Item::None | Item::ArrayOfTables(_) => return Secret::new(item.to_string()),
    };
    Secret::new(plain.to_string())
}

/// Back from [`spelled`].
fn read(text: &Secret) -> Result<Item, String> {
    if let Ok(value) = text.expose().parse::<Value>() {
        return Ok(Item::Value(value));
    }
    let document = text.expose().parse::<DocumentMut>();
    let document = document.map_err(|error| error.message().to_owned())?;
    Ok(Item::Table(bare(document.as_table())))
}

/// The table without comments, and without a place in the document that it came from.
fn bare(table: &Table) -> Table {
    let mut plain = Table::new();
    for (key, item) in table {
        let item = match item {
            Item::Table(inner) => Item::Table(bare(inner)),
            Item::Value(inner) => Item::Value(inner.clone().decorated(" ", "")),
            Item::None | Item::ArrayOfTables(_) => item.clone(),
        };
        plain.insert(key, item);
    }
    plain
}

/// What the settings shall say.
pub(super) fn wanted(request: &WireRequest) -> Result<Vec<Wanted>, String> {
    let base_url = request
        .base_url
        .as_ref()
        .ok_or("Codex needs the address where its requests shall go")?;
    let program = request
        .program
        .to_str()
        .filter(|_| request.program.is_absolute())
        .ok_or("the program's path is not absolute, or not UTF-8")?;
    let mut provider = Table::new();
    provider.insert("name", value(&request.name));
    provider.insert("base_url", value(base_url));
    provider.insert("wire_api", value("responses"));
    if !request.headers.is_empty() {
        let headers: InlineTable = request
            .headers
            .iter()
            .map(|(name, header)| (name.as_str(), header.as_str()))
            .collect();
        provider.insert("http_headers", value(headers));
    }
    let mut auth = Table::new();
    auth.insert("command", value(program));
    auth.insert(
        "args",
        value(request.args.iter().map(String::as_str).collect::<Array>()),
    );
    auth.insert("timeout_ms", value(TIMEOUT_MS));
    auth.insert("refresh_interval_ms", value(REFRESH_INTERVAL_MS));
    provider.insert("auth", Item::Table(auth));
    Ok(vec![
        Wanted {
            path: vec!["model_provider"],
            value: spelled(&value("tokensink")),
        },
        Wanted {
            path: vec!["model_providers", "tokensink"],
            value: spelled(&Item::Table(provider)),
        },
    ])
}
