//! Changes of the model settings in `openclaw.json` (spec.md 12.1). Comments and formatting stay; every change is
//! made on the file as it is under its lock.

use serde_json::{Value, json};
use tokensink_store::{Editor, ModelKind};
use tokensink_types::AgentId;

use super::is_agent;
use crate::error::{ErrorKind, Result, SinkError};
use crate::sink::Sink;

impl Sink {
    /// Sets the default model, of all agents or of one, and keeps its fallbacks. Returns it as `provider/model`.
    ///
    /// # Errors
    /// A usage error for an unknown model or provider; otherwise when `openclaw.json` cannot be changed.
    pub fn set_default_model(&self, agent: Option<&AgentId>, model: &str) -> Result<String> {
        let key = self.model_key(&*self.config()?, model)?;
        self.edit_config(|editor| match agent {
            None => editor.set_default_model(ModelKind::Text, &key),
            Some(agent) => {
                let value = match own_model(editor, agent) {
                    Some(Value::Object(mut own)) => {
                        own.insert("primary".to_owned(), json!(key));
                        Value::Object(own)
                    }
                    _ => json!(key),
                };
                set_own_model(editor, agent, value)?;
                allow(editor, &key)
            }
        })?;
        Ok(key)
    }

    /// Sets the image model, which all agents share, and keeps its fallbacks. Returns it as `provider/model`.
    ///
    /// # Errors
    /// As for [`Sink::set_default_model`]; a usage error when `agent` is given.
    pub fn set_image_model(&self, agent: Option<&AgentId>, model: &str) -> Result<String> {
        let key = self.model_key(&*self.config()?, model)?;
        if agent.is_some() {
            return Err(SinkError::new(
                ErrorKind::Usage,
                "shared_setting",
                "all agents share one image model, so it cannot be set for one agent",
            )
            .with_fix(format!("tokensink models set-image {key}")));
        }
        self.edit_config(|editor| editor.set_default_model(ModelKind::Image, &key))?;
        Ok(key)
    }

    /// Adds a fallback at the end; nothing changes when it is there already. An agent without fallbacks of its own
    /// gets a copy of the shared ones first. Returns all fallbacks.
    ///
    /// # Errors
    /// As for [`Sink::set_default_model`].
    pub fn fallbacks_add(&self, agent: Option<&AgentId>, model: &str) -> Result<Vec<String>> {
        self.add_fallback(Scope::text(agent), model)
    }

    /// Removes a fallback. Returns those that are left.
    ///
    /// # Errors
    /// As for [`Sink::set_default_model`]; a usage error when it is no fallback.
    pub fn fallbacks_remove(&self, agent: Option<&AgentId>, model: &str) -> Result<Vec<String>> {
        self.remove_fallback(Scope::text(agent), model)
    }

    /// Removes all fallbacks; an agent then has none, whatever the shared ones are.
    ///
    /// # Errors
    /// When `openclaw.json` cannot be changed.
    pub fn fallbacks_clear(&self, agent: Option<&AgentId>) -> Result<Vec<String>> {
        self.edit_config(|editor| Scope::text(agent).write(editor, &[]))?;
        Ok(Vec::new())
    }

    /// [`Sink::fallbacks_add`] for the image model.
    ///
    /// # Errors
    /// As there.
    pub fn image_fallbacks_add(&self, model: &str) -> Result<Vec<String>> {
        self.add_fallback(Scope::Shared(ModelKind::Image), model)
    }

    /// [`Sink::fallbacks_remove`] for the image model.
    ///
    /// # Errors
    /// As there.
    pub fn image_fallbacks_remove(&self, model: &str) -> Result<Vec<String>> {
        self.remove_fallback(Scope::Shared(ModelKind::Image), model)
    }

    /// [`Sink::fallbacks_clear`] for the image model.
    ///
    /// # Errors
    /// As there.
    pub fn image_fallbacks_clear(&self) -> Result<Vec<String>> {
        self.edit_config(|editor| Scope::Shared(ModelKind::Image).write(editor, &[]))?;
        Ok(Vec::new())
    }

    fn add_fallback(&self, scope: Scope<'_>, model: &str) -> Result<Vec<String>> {
        let config = self.config()?;
        let key = self.model_key(&config, model)?;
        let list = self.edit_config(|editor| {
            let mut list = scope.read(editor);
            if !list
                .iter()
                .any(|known| self.model_key_or_text(&config, known) == key)
            {
                list.push(key.clone());
                scope.write(editor, &list)?;
            }
            Ok(list)
        })?;
        Ok(list
            .iter()
            .map(|text| self.model_key_or_text(&config, text))
            .collect())
    }

    fn remove_fallback(&self, scope: Scope<'_>, model: &str) -> Result<Vec<String>> {
        let config = self.config()?;
        // A fallback whose provider is no longer known must still go.
        let key = self.model_key_or_text(&config, model);
        let left = self.edit_config(|editor| {
            let list = scope.read(editor);
            let keep = |text: &&String| self.model_key_or_text(&config, text) != key;
            let left: Vec<String> = list.iter().filter(keep).cloned().collect();
            if left.len() == list.len() {
                return Ok(None);
            }
            scope.write(editor, &left)?;
            Ok(Some(left))
        })?;
        let Some(left) = left else {
            return Err(
                SinkError::new(ErrorKind::Usage, "no_fallback", format!("{key} is no fallback"))
                    .with_fix("tokensink models fallbacks list"),
            );
        };
        Ok(left
            .iter()
            .map(|text| self.model_key_or_text(&config, text))
            .collect())
    }

    /// Gives a model a short name; a name that another model has moves over. Returns all aliases.
    ///
    /// # Errors
    /// As for [`Sink::set_default_model`]; a usage error for a name with other characters than letters, digits and
    /// `- _ . :`, which could be taken for something else.
    pub fn alias_add(&self, alias: &str, model: &str) -> Result<Vec<(String, String)>> {
        let alias = alias.trim();
        let plain = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | ':');
        if alias.is_empty() || !alias.chars().all(plain) {
            let message = format!("{alias:?} is no name for a model; use letters, digits and - _ . :");
            return Err(SinkError::new(ErrorKind::Usage, "bad_alias", message)
                .with_fix("tokensink models aliases add <name> <provider>/<model>"));
        }
        let key = self.model_key(&*self.config()?, model)?;
        self.edit_config(|editor| editor.set_alias(&key, alias))?;
        self.aliases()
    }

    /// Takes a short name away. Returns those that are left.
    ///
    /// # Errors
    /// A usage error when no model has it; otherwise when `openclaw.json` cannot be changed.
    pub fn alias_remove(&self, alias: &str) -> Result<Vec<(String, String)>> {
        let alias = alias.trim();
        if !self.edit_config(|editor| Ok(editor.remove_alias(alias)))? {
            return Err(SinkError::new(
                ErrorKind::Usage,
                "no_alias",
                format!("there is no alias {alias:?}"),
            )
            .with_fix("tokensink models aliases list"));
        }
        self.aliases()
    }

    fn aliases(&self) -> Result<Vec<(String, String)>> {
        Ok(self.models_view(&self.default_agent()?)?.aliases)
    }

    /// Changes `openclaw.json` and reads it again.
    pub(crate) fn edit_config<T>(
        &self,
        change: impl FnOnce(&Editor) -> std::result::Result<T, String>,
    ) -> Result<T> {
        let result = self.config_store().edit(change)?;
        self.config_changed()?;
        Ok(result)
    }
}

/// Whose list of fallbacks is meant.
#[derive(Debug, Clone, Copy)]
enum Scope<'a> {
    /// The one in `agents.defaults`.
    Shared(ModelKind),
    /// One agent's.
    Own(&'a AgentId),
}

impl<'a> Scope<'a> {
    fn text(agent: Option<&'a AgentId>) -> Self {
        agent.map_or(Self::Shared(ModelKind::Text), Self::Own)
    }

    /// The list in force, as written.
    fn read(self, editor: &Editor) -> Vec<String> {
        let shared = |key| {
            editor
                .get(&["agents", "defaults", key])
                .as_ref()
                .and_then(fallbacks_of)
                .unwrap_or_default()
        };
        match self {
            Self::Shared(ModelKind::Text) => shared("model"),
            Self::Shared(ModelKind::Image) => shared("imageModel"),
            Self::Own(agent) => {
                let own = own_model(editor, agent).as_ref().and_then(fallbacks_of);
                own.unwrap_or_else(|| shared("model"))
            }
        }
    }

    fn write(self, editor: &Editor, list: &[String]) -> std::result::Result<(), String> {
        let agent = match self {
            Self::Shared(kind) => return editor.set_fallbacks(kind, list),
            Self::Own(agent) => agent,
        };
        let mut own = match own_model(editor, agent) {
            Some(Value::Object(own)) => own,
            Some(Value::String(primary)) => [("primary".to_owned(), json!(primary))].into_iter().collect(),
            _ => serde_json::Map::new(),
        };
        own.insert("fallbacks".to_owned(), json!(list));
        set_own_model(editor, agent, Value::Object(own))?;
        list.iter().try_for_each(|model| allow(editor, model))
    }
}

/// The list of fallbacks in a model setting; `None` where it has none of its own.
pub(super) fn fallbacks_of(model: &Value) -> Option<Vec<String>> {
    let list = model.get("fallbacks")?.as_array()?;
    Some(list.iter().filter_map(Value::as_str).map(str::to_owned).collect())
}

fn own_model(editor: &Editor, agent: &AgentId) -> Option<Value> {
    let Some(Value::Array(list)) = editor.get(&["agents", "list"]) else {
        return None;
    };
    list.iter()
        .find(|entry| is_agent(entry, agent))?
        .get("model")
        .cloned()
}

/// An agent that so far exists on disk only is entered.
fn set_own_model(editor: &Editor, agent: &AgentId, value: Value) -> std::result::Result<(), String> {
    if editor.set_agent_field(agent, "model", &value)? {
        return Ok(());
    }
    editor.add_agent(agent, &[("model", value)])
}

/// Adds a model to a catalogue that exists: one that lists models forbids all others.
fn allow(editor: &Editor, key: &str) -> std::result::Result<(), String> {
    let path = ["agents", "defaults", "models", key];
    match editor.get(&path[..3]) {
        Some(Value::Object(models)) if !models.is_empty() && !models.contains_key(key) => {
            editor.set(&path, &json!({}))
        }
        _ => Ok(()),
    }
}
