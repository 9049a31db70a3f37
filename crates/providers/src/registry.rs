//! All providers: the built-in definitions with the user's files laid over them.
//!
//! A file that does not hold takes nothing down: the built-in definition and all other files go on working, and
//! the fault is reported with its line. The registry reads no files; texts are given to it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use thiserror::Error;
use tokensink_types::{BillingClass, CredentialKind, ProviderId};

use crate::build::build;
use crate::builtin::{BUILTIN, Builtin};
use crate::check_file::check_table;
use crate::definition::{Definition, EnvVar};
use crate::merge::merge_definition;
use crate::origin::{self, FieldOrigin};
use crate::problem::{Place, Problem, Problems, nearest, quoted_list};
use crate::schema::DEFINITION;
use crate::tree::{Node, Table, Value, parse, to_toml};

/// The text of one file of `tokensink/providers/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserFile {
    /// Its path, as it is to stand in messages.
    pub path: PathBuf,
    /// What it holds.
    pub text: String,
}

/// No provider goes by that name.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "unknown provider {text:?}; {}`tokensink providers list` shows all",
    did_you_mean(nearest)
)]
pub struct UnknownProvider {
    /// What was asked for.
    pub text: String,
    /// Ids and aliases that look like it, best first, at most three.
    pub nearest: Vec<String>,
}

fn did_you_mean(nearest: &[String]) -> String {
    if nearest.is_empty() {
        String::new()
    } else {
        format!("did you mean {}? ", nearest.join(" or "))
    }
}

/// A variable that may hold a provider's credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvName {
    /// The variable.
    pub variable: EnvVar,
    /// The provider.
    pub provider: ProviderId,
}

/// A parsed and checked definition with the tree that it was built from.
#[derive(Clone)]
struct Built {
    definition: Definition,
    tree: Table,
}

impl fmt::Debug for Built {
    /// Without the tree, which holds a client secret as plain text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.definition.fmt(f)
    }
}

/// One provider: built in, the user's, or the user's over a built-in one.
#[derive(Debug, Clone)]
struct Item {
    builtin: Option<&'static Builtin>,
    /// The built-in definition as it is without the user's files, parsed when it is first asked for. `None` inside
    /// would be a definition that does not hold; a test sees to it that all of them hold.
    pristine: OnceLock<Option<Box<Built>>>,
    user: Option<Box<Built>>,
}

impl Item {
    fn pristine(&self) -> Option<&Built> {
        let builtin = self.builtin?;
        self.pristine
            .get_or_init(|| build_builtin(builtin).map(Box::new))
            .as_deref()
    }

    /// What is in force.
    fn built(&self) -> Option<&Built> {
        self.user.as_deref().or_else(|| self.pristine())
    }
}

fn build_builtin(builtin: &Builtin) -> Option<Built> {
    let tree = parse(builtin.text, None).ok()?;
    // Its fields are checked by a test, so that the cost is not paid by every process.
    let mut problems = Problems::new(Arc::from(Path::new(builtin.file)));
    let definition = build(&tree, &top(None), &mut problems)?;
    Some(Built { definition, tree })
}

/// The known providers. Cheap to share behind an `Arc`; immutable once loaded. A built-in definition is parsed when
/// it is first asked for.
#[derive(Debug, Clone)]
pub struct Registry {
    items: BTreeMap<ProviderId, Item>,
    aliases: BTreeMap<String, ProviderId>,
}

/// Paths of fields whose value decides where credentials are sent.
const ENDPOINT_SUFFIXES: [&str; 3] = ["_endpoint", "base_url", "issuer"];

impl Registry {
    /// The built-in definitions alone.
    #[must_use]
    pub fn builtin() -> Self {
        let mut registry = Self {
            items: BTreeMap::new(),
            aliases: BTreeMap::new(),
        };
        for builtin in BUILTIN {
            let Ok(id) = ProviderId::parse(builtin.id) else {
                continue;
            };
            for alias in builtin.aliases {
                registry.aliases.insert((*alias).to_owned(), id.clone());
            }
            let item = Item {
                builtin: Some(builtin),
                pristine: OnceLock::new(),
                user: None,
            };
            registry.items.insert(id, item);
        }
        registry
    }

    /// The built-in definitions with the user's files over them, in the order of their paths, and what is wrong
    /// with those files.
    #[must_use]
    pub fn load(user_files: &[UserFile]) -> (Self, Vec<Problem>) {
        let mut registry = Self::builtin();
        let mut problems = Vec::new();
        let mut taken: BTreeMap<ProviderId, PathBuf> = BTreeMap::new();
        let mut files: Vec<&UserFile> = user_files.iter().collect();
        files.sort_by(|a, b| a.path.cmp(&b.path));
        for file in files {
            match registry.evaluate(&file.path, &file.text) {
                Err(found) => problems.extend(found),
                Ok((definition, tree)) => match taken.get(&definition.id) {
                    Some(first) => problems.push(duplicate(file, &definition.id, first, &tree)),
                    None => {
                        taken.insert(definition.id.clone(), file.path.clone());
                        registry.insert(definition, tree);
                    }
                },
            }
        }
        (registry, problems)
    }

    fn insert(&mut self, definition: Definition, tree: Table) {
        let id = definition.id.clone();
        self.aliases.retain(|_, owner| *owner != id);
        for alias in &definition.aliases {
            self.aliases.insert(alias.clone(), id.clone());
        }
        let item = self.items.entry(id).or_insert_with(|| Item {
            builtin: None,
            pristine: OnceLock::new(),
            user: None,
        });
        item.user = Some(Box::new(Built { definition, tree }));
    }

    /// Parses, checks, merges and builds one user file.
    fn evaluate(&self, path: &Path, text: &str) -> Result<(Definition, Table), Vec<Problem>> {
        let file: Arc<Path> = Arc::from(path);
        let own = parse(text, Some(Arc::clone(&file)))?;
        let mut problems = Problems::new(Arc::clone(&file));
        check_table(&own, DEFINITION, "", &mut problems);
        if !problems.is_empty() {
            return Err(problems.into_sorted());
        }
        let base = self.base_of(&own, &mut problems);
        let merged = merge_definition(&base, &own, &mut problems);
        let definition = build(&merged, &top(Some(Arc::clone(&file))), &mut problems);
        if let Some(definition) = &definition {
            self.check_aliases(definition, &own, &mut problems);
        }
        match definition {
            Some(definition) if problems.is_empty() => Ok((definition, merged)),
            _ => Err(problems.into_sorted()),
        }
    }

    /// What a user's file is laid over: the definition of its id, else the one that it extends, else nothing.
    fn base_of(&self, own: &Table, problems: &mut Problems) -> Table {
        let id = own.text("id").and_then(|text| ProviderId::parse(text).ok());
        if let Some(builtin) = id.as_ref().and_then(|id| self.items.get(id)?.pristine()) {
            if let Some(entry) = own.entry("extends") {
                let message = "extends has no effect over a built-in provider".to_owned();
                let fix = "remove it, or choose another id";
                problems.add(&entry.place, "extends", message, fix);
            }
            return builtin.tree.clone();
        }
        let Some(extends) = own.entry("extends") else {
            return Table::default();
        };
        let wanted = extends.node.text().unwrap_or_default();
        let found = self.resolve(wanted);
        let builtin = found
            .as_ref()
            .ok()
            .and_then(|found| self.items.get(&found.id)?.pristine());
        if let Some(builtin) = builtin {
            return pattern_of(&builtin.tree);
        }
        let message = format!("extends: there is no built-in provider {wanted:?}");
        let nearest = found.err().map(|unknown| unknown.nearest).unwrap_or_default();
        let fix = format!("{}`tokensink providers list` shows all", did_you_mean(&nearest));
        problems.add(&extends.node.place, "extends", message, fix);
        Table::default()
    }

    /// An alias must lead to one provider only.
    fn check_aliases(&self, definition: &Definition, own: &Table, problems: &mut Problems) {
        for node in own.get("aliases").map(Node::list).unwrap_or_default() {
            let Some(alias) = node.text().map(str::to_lowercase) else {
                continue;
            };
            let owner = match ProviderId::parse(&alias) {
                Ok(id) if self.items.contains_key(&id) => Some(id),
                Ok(_) => self.aliases.get(&alias).cloned(),
                Err(error) => {
                    problems.add(
                        &node.place,
                        "aliases",
                        format!("aliases: {error}"),
                        "write another word",
                    );
                    continue;
                }
            };
            if let Some(owner) = owner.filter(|owner| *owner != definition.id) {
                let message = format!("aliases: {alias:?} stands for the provider {owner} already");
                problems.add(&node.place, "aliases", message, "write another word");
            }
        }
    }

    /// The definition with exactly this id.
    #[must_use]
    pub fn get(&self, id: &ProviderId) -> Option<&Definition> {
        self.items.get(id)?.built().map(|built| &built.definition)
    }

    /// What a request on a stored credential costs, unless the user says otherwise; `None` for a provider that nobody
    /// knows. Parses nothing for a provider that the user's files leave alone.
    #[must_use]
    pub fn billing_for(
        &self,
        id: &ProviderId,
        kind: CredentialKind,
        client_id: Option<&str>,
    ) -> Option<BillingClass> {
        let item = self.items.get(id)?;
        match (&item.user, item.builtin) {
            (None, Some(builtin)) => Some(builtin.billing_for(kind)),
            _ => Some(item.built()?.definition.billing_for(kind, client_id)),
        }
    }

    /// The definition that `text` names: trimmed, lower-case, by id and then by alias (spec.md 3.1).
    ///
    /// # Errors
    /// [`UnknownProvider`] with the nearest names.
    pub fn resolve(&self, text: &str) -> Result<&Definition, UnknownProvider> {
        // Most texts are ids as they stand.
        let as_it_stands = self.items.get(text).and_then(Item::built);
        let found = as_it_stands.map(|built| &built.definition).or_else(|| {
            let id = ProviderId::parse(text).ok()?;
            self.get(&id).or_else(|| self.get(self.aliases.get(id.as_str())?))
        });
        found.ok_or_else(|| {
            let ids = self.items.keys().map(ProviderId::as_str);
            let names = ids.chain(self.aliases.keys().map(String::as_str));
            UnknownProvider {
                text: text.trim().to_owned(),
                nearest: nearest(text.trim(), names, 3)
                    .into_iter()
                    .map(str::to_owned)
                    .collect(),
            }
        })
    }

    /// The id that profiles of `id` carry: `id` itself, or what it is an alias of. An id that nobody knows stays as
    /// it is, for credentials of unknown providers are kept too.
    #[must_use]
    pub fn canonical(&self, id: &ProviderId) -> ProviderId {
        if self.items.contains_key(id) {
            return id.clone();
        }
        self.aliases.get(id.as_str()).unwrap_or(id).clone()
    }

    /// Every alias with the id that it stands for. Parses nothing.
    pub fn aliases(&self) -> impl Iterator<Item = (&str, &ProviderId)> {
        self.aliases.iter().map(|(alias, id)| (alias.as_str(), id))
    }

    /// All definitions by id.
    pub fn all(&self) -> impl Iterator<Item = &Definition> {
        self.items
            .values()
            .filter_map(Item::built)
            .map(|built| &built.definition)
    }

    /// All variables that may hold a credential, by provider and in the order of preference. A variable may stand
    /// under several providers.
    #[must_use]
    pub fn env_names(&self) -> Vec<EnvName> {
        self.all()
            .flat_map(|definition| {
                definition.env.iter().map(|variable| EnvName {
                    variable: variable.clone(),
                    provider: definition.id.clone(),
                })
            })
            .collect()
    }

    /// The model that a short name like `opus` stands for, in any case. The user's own providers come first, then
    /// the built-in ones by id.
    #[must_use]
    pub fn model_alias(&self, alias: &str) -> Option<(&ProviderId, &str)> {
        let alias = alias.trim();
        let users = self.items.values().filter(|item| item.builtin.is_none());
        let built_in = self.items.values().filter(|item| item.builtin.is_some());
        users.chain(built_in).find_map(|item| {
            let definition = &item.built()?.definition;
            let (_, model) = definition
                .api
                .aliases
                .iter()
                .find(|(name, _)| name.eq_ignore_ascii_case(alias))?;
            Some((&definition.id, model.as_str()))
        })
    }

    /// Every field of a provider with its value and where that was written; empty for an unknown provider.
    #[must_use]
    pub fn origins(&self, id: &ProviderId) -> Vec<FieldOrigin> {
        self.items
            .get(id)
            .and_then(Item::built)
            .map(|built| origin::fields(&built.tree))
            .unwrap_or_default()
    }

    /// The fields of a built-in provider that decide where credentials go and that a user's file has changed.
    #[must_use]
    pub fn overridden_endpoints(&self, id: &ProviderId) -> Vec<FieldOrigin> {
        if !self.is_builtin(id) {
            return Vec::new();
        }
        let mut fields = self.origins(id);
        fields.retain(|field| {
            field.origin.is_file()
                && ENDPOINT_SUFFIXES
                    .iter()
                    .any(|suffix| field.path.ends_with(suffix))
        });
        fields
    }

    /// Whether the provider exists without the user's files.
    #[must_use]
    pub fn is_builtin(&self, id: &ProviderId) -> bool {
        self.items.get(id).is_some_and(|item| item.builtin.is_some())
    }

    /// The merged definition as a file in the user's format, the values of secret fields masked.
    #[must_use]
    pub fn to_toml(&self, id: &ProviderId) -> Option<String> {
        let built = self.items.get(id)?.built()?;
        toml::to_string(&to_toml(&origin::masked(&built.tree))).ok()
    }
}

/// The definition that one file would give, laid over the built-in definitions of `registry`.
///
/// # Errors
/// What is wrong with the file, in the order of its lines.
pub fn draft(path: &Path, text: &str, registry: &Registry) -> Result<Definition, Vec<Problem>> {
    registry.evaluate(path, text).map(|(definition, _)| definition)
}

/// Checks one file as it would be loaded over the built-in definitions of `registry`; empty when it holds.
#[must_use]
pub fn check(path: &Path, text: &str, registry: &Registry) -> Vec<Problem> {
    registry.evaluate(path, text).err().unwrap_or_default()
}

fn top(file: Option<Arc<Path>>) -> Place {
    Place {
        file,
        line: 1,
        column: 1,
    }
}

/// A definition as the start of another one: without what belongs to the provider itself.
fn pattern_of(builtin: &Table) -> Table {
    let mut tree = builtin.clone();
    for own in ["id", "name", "aliases", "env", "env_shared", "template", "docs"] {
        tree.remove(own);
    }
    for entry in &mut tree.entries {
        match (entry.key.as_str(), &mut entry.node.value) {
            // The short names of models would otherwise be claimed twice.
            ("api", Value::Table(api)) => api.remove("aliases"),
            ("auth", Value::List(methods)) => {
                for method in methods {
                    if let Value::Table(method) = &mut method.value {
                        method.remove("env");
                        // So would its auth choices; the new provider gets the usual one.
                        method.remove("choice");
                    }
                }
            }
            _ => {}
        }
    }
    tree
}

fn duplicate(file: &UserFile, id: &ProviderId, first: &Path, tree: &Table) -> Problem {
    let place = tree
        .get("id")
        .map_or_else(|| top(None), |node| node.place.clone());
    Problem {
        path: file.path.clone(),
        line: place.line,
        column: place.column,
        field: "id".to_owned(),
        message: format!(
            "the provider {} is defined in {} already",
            quoted_list([id.as_str()]),
            first.display()
        ),
        fix: "keep one file for each id; this one is not used".to_owned(),
    }
}
