//! Edits on the text of the config: comments, order and formatting of what an edit does not touch stay.
//!
//! The primitives ([`Editor::set`], [`Editor::set_list`], …) work on a path of keys; the edits of the commands are
//! made of them. Where JSON5 has a key twice, the last one counts, as it does for its reader.

use jsonc_parser::cst::{CstArray, CstInputValue, CstNode, CstObject, CstObjectProp, CstRootNode};
use serde_json::{Value, json};
use tokensink_types::{AgentId, ProfileId, ProviderId};

use super::read::{ModelKind, model_choice};
use crate::json::ParseFailure;

/// Where a profile goes in an existing `auth.order` (spec.md 2.9.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OrderPlacement {
    /// To the front.
    Front,
    /// To the end if it is missing; else it stays where it is.
    AppendIfMissing,
}

/// A config text being edited.
#[derive(Debug)]
pub struct Editor {
    root: CstRootNode,
    bom: bool,
}

impl Editor {
    /// Parses the text to be edited.
    ///
    /// # Errors
    /// [`ParseFailure`] when it does not parse, or could not be written back byte for byte.
    pub fn parse(text: &str) -> Result<Self, ParseFailure> {
        let plain = text.strip_prefix('\u{feff}');
        let root = super::parse(plain.unwrap_or(text))?;
        let editor = Self {
            root,
            bom: plain.is_some(),
        };
        if editor.text() == text {
            Ok(editor)
        } else {
            Err(ParseFailure::whole(
                "its line ends are of a kind that would not survive an edit; convert them (dos2unix)",
            ))
        }
    }

    /// The text as it is now.
    #[must_use]
    pub fn text(&self) -> String {
        let mark = if self.bom { "\u{feff}" } else { "" };
        format!("{mark}{}", self.root)
    }

    /// The value under a path of keys.
    #[must_use]
    pub fn get(&self, path: &[&str]) -> Option<Value> {
        let (last, parents) = path.split_last()?;
        last_property(&self.find(parents)?, last)?.to_serde_value()
    }

    /// Sets the value under a path of keys; missing objects on the way are made. An equal value is left as written.
    ///
    /// # Errors
    /// A sentence when something other than an object stands in the way.
    pub fn set(&self, path: &[&str], value: &Value) -> Result<(), String> {
        let root = self.root.object_value().ok_or("the config holds no object")?;
        set_in(root, path, value)
    }

    /// Removes what is under a path of keys; `false` when nothing is there.
    pub fn remove(&self, path: &[&str]) -> bool {
        let Some((last, parents)) = path.split_last() else {
            return false;
        };
        let Some(object) = self.find(parents) else {
            return false;
        };
        let mut removed = false;
        while let Some(property) = last_property(&object, last) {
            property.remove();
            removed = true;
        }
        removed
    }

    /// Makes a list of texts hold exactly `wanted`, moving as little as possible. A missing list is made.
    ///
    /// # Errors
    /// A sentence when something other than a list or an object stands in the way.
    pub fn set_list(&self, path: &[&str], wanted: &[String]) -> Result<(), String> {
        let array = self.make_array(path)?;
        let text_at = |index: usize| array.elements().get(index).and_then(text_of);
        for index in (0..array.elements().len()).rev() {
            if text_at(index).is_none_or(|text| !wanted.contains(&text)) {
                remove_element(&array, index);
            }
        }
        for (index, text) in wanted.iter().enumerate() {
            if text_at(index).as_ref() == Some(text) {
                continue;
            }
            let later = (index..array.elements().len()).find(|later| text_at(*later).as_ref() == Some(text));
            if let Some(later) = later {
                remove_element(&array, later);
            }
            array.insert(index, CstInputValue::String(text.clone()));
        }
        for index in (wanted.len()..array.elements().len()).rev() {
            remove_element(&array, index);
        }
        Ok(())
    }

    /// Appends to the list under a path; a missing list is made.
    ///
    /// # Errors
    /// As for [`Editor::set_list`].
    pub fn push(&self, path: &[&str], value: &Value) -> Result<(), String> {
        self.make_array(path)?.append(input(value));
        Ok(())
    }

    /// Removes an element of the list under a path; `false` when there is none.
    pub fn remove_at(&self, path: &[&str], index: usize) -> bool {
        self.array(path)
            .is_some_and(|array| remove_element(&array, index))
    }

    /// Replaces an element of the list under a path; `false` when there is none.
    pub fn replace_at(&self, path: &[&str], index: usize, value: &Value) -> bool {
        let Some(element) = self
            .array(path)
            .and_then(|array| array.elements().into_iter().nth(index))
        else {
            return false;
        };
        if element.to_serde_value().as_ref() != Some(value) {
            replace(&element, input(value));
        }
        true
    }

    /// Sets a field, by its path of keys, of an element of the list under `path`; what else is in the element stays as
    /// written. `false` when there is no such element.
    ///
    /// # Errors
    /// A sentence when the element, or something on the way, is no object.
    pub fn set_at(
        &self,
        path: &[&str],
        index: usize,
        fields: &[&str],
        value: &Value,
    ) -> Result<bool, String> {
        let element = self
            .array(path)
            .and_then(|array| array.elements().into_iter().nth(index));
        let Some(element) = element else {
            return Ok(false);
        };
        let object = element
            .as_object()
            .ok_or_else(|| format!("{}[{index}] is no object; correct it by hand", path.join(".")))?;
        set_in(object, fields, value)?;
        Ok(true)
    }

    /// Enters a profile as every login does (spec.md 2.9): `auth.profiles[id]` says provider, mode and e-mail; an
    /// existing order of the provider gets the id; an order is never made.
    ///
    /// # Errors
    /// As for [`Editor::set`].
    pub fn apply_profile(
        &self,
        id: &ProfileId,
        provider: &ProviderId,
        mode: &str,
        email: Option<&str>,
        placement: OrderPlacement,
    ) -> Result<(), String> {
        let path = ["auth", "profiles", id.as_str()];
        let field = |name| ["auth", "profiles", id.as_str(), name];
        if self.get(&path).is_some_and(|entry| entry.is_object()) {
            self.set(&field("provider"), &json!(provider.as_str()))?;
            self.set(&field("mode"), &json!(mode))?;
            match email {
                Some(email) => self.set(&field("email"), &json!(email))?,
                None => {
                    self.remove(&field("email"));
                }
            }
        } else {
            let mut entry = json!({"provider": provider.as_str(), "mode": mode});
            if let Some(email) = email {
                entry["email"] = json!(email);
            }
            self.set(&path, &entry)?;
        }
        self.place_in_order(id, provider, placement)
    }

    /// Takes a profile out of `auth.profiles` and of all orders; `false` when it was in neither.
    ///
    /// # Errors
    /// As for [`Editor::set_list`].
    pub fn remove_profile(&self, id: &ProfileId) -> Result<bool, String> {
        let mut removed = self.remove(&["auth", "profiles", id.as_str()]);
        for (key, mut ids) in self.orders() {
            let before = ids.len();
            ids.retain(|known| known.trim() != id.as_str());
            if ids.len() != before {
                removed = true;
                // An order that lost its last profile would select none; without it all stored ones count.
                if ids.is_empty() {
                    self.remove(&["auth", "order", &key]);
                } else {
                    self.set_list(&["auth", "order", &key], &ids)?;
                }
            }
        }
        Ok(removed)
    }

    /// Gives a profile another id, in `auth.profiles` and in every order (spec.md 3.4). Where the new id has an entry
    /// already, that one stays; an order names it once.
    ///
    /// # Errors
    /// As for [`Editor::set_list`].
    pub fn rename_profile(&self, from: &ProfileId, to: &ProfileId) -> Result<(), String> {
        let old = ["auth", "profiles", from.as_str()];
        let new = ["auth", "profiles", to.as_str()];
        if let Some(entry) = self.get(&old) {
            if self.get(&new).is_none() {
                self.set(&new, &entry)?;
            }
            self.remove(&old);
        }
        for (key, ids) in self.orders() {
            let renamed = |id: &String| {
                if id.trim() == from.as_str() {
                    to.as_str().to_owned()
                } else {
                    id.clone()
                }
            };
            let mut wanted: Vec<String> = Vec::with_capacity(ids.len());
            for id in ids.iter().map(renamed) {
                if !wanted.contains(&id) {
                    wanted.push(id);
                }
            }
            if wanted != ids {
                self.set_list(&["auth", "order", &key], &wanted)?;
            }
        }
        Ok(())
    }

    fn place_in_order(
        &self,
        id: &ProfileId,
        provider: &ProviderId,
        place: OrderPlacement,
    ) -> Result<(), String> {
        for (key, mut ids) in self.orders() {
            if ProviderId::parse(&key).ok().as_ref() != Some(provider) {
                continue;
            }
            let present = ids.iter().any(|known| known.trim() == id.as_str());
            match place {
                OrderPlacement::AppendIfMissing if present => continue,
                OrderPlacement::AppendIfMissing => ids.push(id.as_str().to_owned()),
                OrderPlacement::Front => {
                    ids.retain(|known| known.trim() != id.as_str());
                    ids.insert(0, id.as_str().to_owned());
                }
            }
            self.set_list(&["auth", "order", &key], &ids)?;
        }
        Ok(())
    }

    fn orders(&self) -> Vec<(String, Vec<String>)> {
        let Some(Value::Object(orders)) = self.get(&["auth", "order"]) else {
            return Vec::new();
        };
        let texts = |value: &Value| {
            let list = value.as_array()?;
            Some(list.iter().filter_map(Value::as_str).map(str::to_owned).collect())
        };
        orders
            .iter()
            .filter_map(|(key, value)| Some((key.clone(), texts(value)?)))
            .collect()
    }

    /// Sets the default model and keeps its fallbacks. A catalogue that lists models gets this one too, since it
    /// forbids all others.
    ///
    /// # Errors
    /// As for [`Editor::set`].
    pub fn set_default_model(&self, kind: ModelKind, model: &str) -> Result<(), String> {
        let path = ["agents", "defaults", kind.key()];
        match self.get(&path) {
            Some(Value::String(_)) => self.set(&path, &json!(model))?,
            Some(Value::Object(_)) => {
                self.set(&["agents", "defaults", kind.key(), "primary"], &json!(model))?;
            }
            Some(_) | None => self.set(&path, &json!({"primary": model}))?,
        }
        self.list_model(model)
    }

    /// Sets the fallbacks of a default model; an empty list removes them.
    ///
    /// # Errors
    /// As for [`Editor::set_list`].
    pub fn set_fallbacks(&self, kind: ModelKind, fallbacks: &[String]) -> Result<(), String> {
        let path = ["agents", "defaults", kind.key()];
        let list = ["agents", "defaults", kind.key(), "fallbacks"];
        if let Some(Value::String(primary)) = self.get(&path) {
            if fallbacks.is_empty() {
                return Ok(());
            }
            self.set(&path, &json!({"primary": primary, "fallbacks": fallbacks}))?;
        } else if fallbacks.is_empty() {
            self.remove(&list);
        } else {
            self.set_list(&list, fallbacks)?;
        }
        fallbacks.iter().try_for_each(|model| self.list_model(model))
    }

    /// Adds a fallback at the end; `false` when it is there already.
    ///
    /// # Errors
    /// As for [`Editor::set_list`].
    pub fn add_fallback(&self, kind: ModelKind, model: &str) -> Result<bool, String> {
        let mut fallbacks = self.fallbacks(kind);
        if fallbacks.iter().any(|known| known == model) {
            return Ok(false);
        }
        fallbacks.push(model.to_owned());
        self.set_fallbacks(kind, &fallbacks)?;
        Ok(true)
    }

    /// Removes a fallback; `false` when it is not there.
    ///
    /// # Errors
    /// As for [`Editor::set_list`].
    pub fn remove_fallback(&self, kind: ModelKind, model: &str) -> Result<bool, String> {
        let mut fallbacks = self.fallbacks(kind);
        let before = fallbacks.len();
        fallbacks.retain(|known| known != model);
        if fallbacks.len() == before {
            return Ok(false);
        }
        self.set_fallbacks(kind, &fallbacks)?;
        Ok(true)
    }

    fn fallbacks(&self, kind: ModelKind) -> Vec<String> {
        let value = self.get(&["agents", "defaults", kind.key()]);
        value.map_or_else(Vec::new, |value| model_choice(&value).fallbacks)
    }

    /// Adds a model to a catalogue that exists and is not empty; without one all models are allowed.
    fn list_model(&self, model: &str) -> Result<(), String> {
        let path = ["agents", "defaults", "models", model];
        let Some(Value::Object(models)) = self.get(&path[..3]) else {
            return Ok(());
        };
        if models.is_empty() || models.contains_key(model) {
            return Ok(());
        }
        self.set(&path, &json!({}))
    }

    /// Gives a model an alias, in `agents.defaults.models` (the model is entered there). An alias that another model
    /// has moves over.
    ///
    /// # Errors
    /// As for [`Editor::set`].
    pub fn set_alias(&self, model: &str, alias: &str) -> Result<(), String> {
        for other in self.models_with_alias(alias) {
            if other != model {
                self.remove(&["agents", "defaults", "models", &other, "alias"]);
            }
        }
        self.set(&["agents", "defaults", "models", model, "alias"], &json!(alias))
    }

    /// Takes an alias away; its model stays in the catalogue. `false` when no model has it.
    pub fn remove_alias(&self, alias: &str) -> bool {
        let models = self.models_with_alias(alias);
        for model in &models {
            self.remove(&["agents", "defaults", "models", model, "alias"]);
        }
        !models.is_empty()
    }

    fn models_with_alias(&self, alias: &str) -> Vec<String> {
        let Some(Value::Object(models)) = self.get(&["agents", "defaults", "models"]) else {
            return Vec::new();
        };
        let has = |entry: &Value| {
            let known = entry.get("alias").and_then(Value::as_str);
            known.is_some_and(|known| known.trim().eq_ignore_ascii_case(alias.trim()))
        };
        models
            .iter()
            .filter(|(_, entry)| has(entry))
            .map(|(model, _)| model.clone())
            .collect()
    }

    /// Adds an agent to `agents.list`. `entry` is its object without `id`. In a new list `main` comes first, so that
    /// it stays the default agent.
    ///
    /// # Errors
    /// A sentence when the agent is there already, or as for [`Editor::push`].
    pub fn add_agent(&self, id: &AgentId, entry: &[(&str, Value)]) -> Result<(), String> {
        let path = ["agents", "list"];
        if self.agent_index(id).is_some() {
            return Err(format!("agent \"{id}\" exists already; choose another name"));
        }
        let is_new = self.array(&path).is_none_or(|array| array.elements().is_empty());
        if is_new && !id.is_main() {
            self.push(&path, &json!({"id": AgentId::MAIN}))?;
        }
        let mut value = json!({"id": id.as_str()});
        for (key, field) in entry {
            value[*key] = field.clone();
        }
        self.push(&path, &value)
    }

    /// Sets one field of an agent in `agents.list`; `false` when the agent is not there.
    ///
    /// # Errors
    /// A sentence when the entry is no object.
    pub fn set_agent_field(&self, id: &AgentId, field: &str, value: &Value) -> Result<bool, String> {
        let Some(index) = self.agent_index(id) else {
            return Ok(false);
        };
        self.set_at(&["agents", "list"], index, &[field], value)
    }

    /// Removes an agent from `agents.list`; `false` when it is not there.
    pub fn remove_agent(&self, id: &AgentId) -> bool {
        self.agent_index(id)
            .is_some_and(|index| self.remove_at(&["agents", "list"], index))
    }

    fn agent_index(&self, id: &AgentId) -> Option<usize> {
        let elements = self.array(&["agents", "list"])?.elements();
        elements.iter().position(|element| {
            let value = element.to_serde_value();
            let known = value
                .as_ref()
                .and_then(|value| value.get("id"))
                .and_then(Value::as_str);
            known.is_some_and(|known| AgentId::normalise(known) == *id)
        })
    }

    fn find(&self, path: &[&str]) -> Option<CstObject> {
        path.iter().try_fold(self.root.object_value()?, |object, key| {
            last_property(&object, key)?.object_value()
        })
    }

    fn make(&self, path: &[&str]) -> Result<CstObject, String> {
        make_in(
            self.root.object_value().ok_or("the config holds no object")?,
            path,
        )
    }

    fn array(&self, path: &[&str]) -> Option<CstArray> {
        let (last, parents) = path.split_last()?;
        last_property(&self.find(parents)?, last)?.array_value()
    }

    fn make_array(&self, path: &[&str]) -> Result<CstArray, String> {
        let (last, parents) = path.split_last().ok_or("an empty path holds no list")?;
        let object = self.make(parents)?;
        let property = match last_property(&object, last) {
            Some(property) => property,
            None => object.append(last, CstInputValue::Array(Vec::new())),
        };
        property.array_value().ok_or_else(|| in_the_way(path, "a list"))
    }
}

/// The object under a path of keys below `object`; what is missing on the way is made.
fn make_in(mut object: CstObject, path: &[&str]) -> Result<CstObject, String> {
    for (depth, key) in path.iter().enumerate() {
        let property = match last_property(&object, key) {
            Some(property) => property,
            None => object.append(key, CstInputValue::Object(Vec::new())),
        };
        object = property
            .object_value()
            .ok_or_else(|| in_the_way(&path[..=depth], "an object"))?;
    }
    Ok(object)
}

/// Sets the value under a path of keys below `object`. An equal value is left as written.
fn set_in(object: CstObject, path: &[&str], value: &Value) -> Result<(), String> {
    let (last, parents) = path.split_last().ok_or("an empty path cannot be set")?;
    let object = make_in(object, parents)?;
    match last_property(&object, last) {
        Some(property) if property.to_serde_value().as_ref() == Some(value) => {}
        Some(property) => property.set_value(input(value)),
        None => {
            object.append(last, input(value));
        }
    }
    Ok(())
}

fn in_the_way(path: &[&str], wanted: &str) -> String {
    format!(
        "{} is not {wanted}; correct it by hand and run the command again",
        path.join(".")
    )
}

/// The property that a reader of the config sees: the last one of that name.
fn last_property(object: &CstObject, name: &str) -> Option<CstObjectProp> {
    let properties = object.properties();
    properties
        .into_iter()
        .rev()
        .find(|property| property.decoded_name().as_deref() == Some(name))
}

fn text_of(node: &CstNode) -> Option<String> {
    node.to_serde_value()?.as_str().map(str::to_owned)
}

fn remove_element(array: &CstArray, index: usize) -> bool {
    match array.elements().into_iter().nth(index) {
        Some(element) => {
            element.remove();
            true
        }
        None => false,
    }
}

fn replace(element: &CstNode, value: CstInputValue) {
    if let Some(node) = element.as_object() {
        node.replace_with(value);
    } else if let Some(node) = element.as_array() {
        node.replace_with(value);
    } else if let Some(node) = element.as_string_lit() {
        node.replace_with(value);
    } else if let Some(node) = element.as_number_lit() {
        node.replace_with(value);
    } else if let Some(node) = element.as_boolean_lit() {
        node.replace_with(value);
    } else if let Some(node) = element.as_null_keyword() {
        node.replace_with(value);
    }
}

fn input(value: &Value) -> CstInputValue {
    match value {
        Value::Null => CstInputValue::Null,
        Value::Bool(flag) => CstInputValue::Bool(*flag),
        Value::Number(number) => CstInputValue::Number(number.to_string()),
        Value::String(text) => CstInputValue::String(text.clone()),
        Value::Array(items) => CstInputValue::Array(items.iter().map(input).collect()),
        Value::Object(map) => CstInputValue::Object(
            map.iter()
                .map(|(key, value)| (key.clone(), input(value)))
                .collect(),
        ),
    }
}
