//! The definition that is made of what a manifest says of one provider.

use tokensink_types::{MethodId, ProviderId};

use super::{Drafted, Entry, MANIFEST_NAME, Reading, Way, WayChoice, WayKind};
use crate::registry::Registry;

impl Reading {
    pub(super) fn draft(
        &mut self,
        plugin: &str,
        id: ProviderId,
        entry: Entry,
        registry: &Registry,
    ) -> Option<Drafted> {
        let aliases = self.free_aliases(&id, entry.aliases, registry);
        let methods = self.methods(&id, entry.ways, !entry.env.is_empty());
        if methods.is_empty() {
            self.leave(format!(
                "{id}: nothing in it can be used without the plugin's program"
            ));
            return None;
        }
        self.taken
            .extend(entry.env.iter().map(|name| format!("{id}: variable {name}")));
        self.taken
            .extend(aliases.iter().map(|alias| format!("{id}: alias {alias}")));
        let mut table = toml::Table::new();
        table.insert("id".to_owned(), id.as_str().into());
        table.insert("name".to_owned(), id.as_str().into());
        if !aliases.is_empty() {
            table.insert("aliases".to_owned(), aliases.into());
        }
        // A manifest says nothing about money, and the dearest class is the one that failover never moves to unasked.
        table.insert("billing".to_owned(), "metered".into());
        if !entry.env.is_empty() {
            table.insert("env".to_owned(), entry.env.into());
        }
        let api = toml::Table::from_iter([("kind".to_owned(), "none".into())]);
        table.insert("api".to_owned(), api.into());
        table.insert("auth".to_owned(), methods.into());
        let body = toml::to_string(&table).ok()?;
        let head = format!(
            "# Made from {MANIFEST_NAME} of the plugin {plugin:?}. For requests through tokensink, set [api].\n"
        );
        Some(Drafted {
            id,
            text: head + &body,
        })
    }

    /// The aliases that stand for no other provider.
    fn free_aliases(
        &mut self,
        id: &ProviderId,
        mut aliases: Vec<String>,
        registry: &Registry,
    ) -> Vec<String> {
        aliases.retain(|alias| match registry.resolve(alias) {
            Ok(known) if known.id != *id => {
                self.left
                    .push(format!("{id}: alias {alias} stands for {} already", known.id));
                false
            }
            Ok(_) | Err(_) => true,
        });
        aliases
    }

    /// The methods that need no program.
    fn methods(&mut self, id: &ProviderId, mut ways: Vec<Way>, has_env: bool) -> Vec<toml::Value> {
        let has_pasted = ways.iter().any(|way| way.kind != WayKind::Program);
        if !has_pasted && has_env {
            // A variable holds a credential that can be pasted as well.
            ways.push(Way {
                method: "api-key".to_owned(),
                choices: Vec::new(),
                kind: WayKind::ApiKey,
            });
        }
        ways.iter().filter_map(|way| self.method(id, way)).collect()
    }

    fn method(&mut self, id: &ProviderId, way: &Way) -> Option<toml::Value> {
        let named = match way.choices.first() {
            Some(choice) => format!("{id}: method {} (choice {})", way.method, choice.id),
            None => format!("{id}: method {}", way.method),
        };
        let word = match way.kind {
            WayKind::Program => {
                self.leave(format!("{named} needs the plugin's program"));
                return None;
            }
            WayKind::Token => "token",
            WayKind::ApiKey => "api_key",
        };
        match MethodId::parse(&way.method) {
            Ok(method) => {
                self.taken.push(format!("{named} as a pasted {word}"));
                Some(method_table(&method, word, way))
            }
            Err(error) => {
                self.leave(format!("{named}: {error}"));
                None
            }
        }
    }
}

fn method_table(id: &MethodId, kind: &str, way: &Way) -> toml::Value {
    let mut table = toml::Table::new();
    table.insert("id".to_owned(), id.as_str().into());
    if let Some(label) = way.choices.iter().find_map(|choice| choice.label.as_deref()) {
        table.insert("name".to_owned(), label.into());
    }
    table.insert("kind".to_owned(), kind.into());
    if !way.choices.is_empty() {
        let choices: Vec<toml::Value> = way.choices.iter().map(choice_table).collect();
        table.insert("choice".to_owned(), choices.into());
    }
    table.into()
}

fn choice_table(choice: &WayChoice) -> toml::Value {
    let mut table = toml::Table::new();
    table.insert("id".to_owned(), choice.id.as_str().into());
    let texts = [
        ("name", &choice.label),
        ("hint", &choice.hint),
        ("group", &choice.group),
        ("option", &choice.option),
    ];
    for (key, text) in texts {
        if let Some(text) = text {
            table.insert(key.to_owned(), text.as_str().into());
        }
    }
    if !choice.deprecated.is_empty() {
        table.insert("deprecated".to_owned(), choice.deprecated.clone().into());
    }
    if choice.hidden {
        table.insert("hidden".to_owned(), true.into());
    }
    table.into()
}
