//! `secrets` in `openclaw.json` (spec.md 16.3): providers, defaults and limits.
//!
//! Reading is strict, because a misspelt `trustedDirs` that is silently ignored would run what must not run: an unknown
//! key or a wrong value makes its provider unusable, with a sentence that names the key, and touches no other.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Map, Value};
use tokensink_host::Bounds;
use tokensink_store::{Config, Paths};

use super::reference::{DEFAULT_PROVIDER, Source, is_alias, provider_key};

/// `timeoutMs` of a provider that names none, in milliseconds.
const TIME_MS: u64 = 5_000;
/// Longest `timeoutMs`, in milliseconds: somebody waits for the answer.
const TIME_MS_MAX: u64 = 120_000;
/// `maxBytes` and `maxOutputBytes` of a provider that names none.
const BYTES: u64 = 1024 * 1024;
/// Largest `maxBytes` and `maxOutputBytes`: all of it is held in memory.
const BYTES_MAX: u64 = 20 * 1024 * 1024;
/// `maxProviderConcurrency` by default, and the most.
const CONCURRENCY: (u64, u64) = (4, 16);
/// `maxRefsPerProvider` by default, and the most.
const REFS: (u64, u64) = (512, 4_096);
/// `maxBatchBytes` by default, and the most.
const BATCH_BYTES: (u64, u64) = (262_144, 5 * 1024 * 1024);

/// The whole section.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct SecretsConfig {
    providers: BTreeMap<String, Result<Provider, Problem>>,
    defaults: BTreeMap<&'static str, String>,
    limits: Limits,
    /// What is wrong outside of the providers.
    pub(crate) problems: Vec<Problem>,
}

/// What is wrong with a config key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    /// The key, for example `secrets.providers.vault.command`.
    pub(crate) key: String,
    /// What is wrong with its value; the value is not in it.
    pub(crate) why: String,
}

/// `secrets.resolution`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// How many providers are asked at once.
    pub(crate) concurrency: usize,
    /// Most references of one provider that are resolved together.
    pub(crate) refs: usize,
    /// Most bytes of one request to a program.
    pub(crate) batch_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            concurrency: size(CONCURRENCY.0),
            refs: size(REFS.0),
            batch_bytes: size(BATCH_BYTES.0),
        }
    }
}

/// A secret provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Provider {
    Env(EnvProvider),
    File(FileProvider),
    Exec(ExecProvider),
}

impl Provider {
    pub(crate) fn source(&self) -> Source {
        match self {
            Self::Env(_) => Source::Env,
            Self::File(_) => Source::File,
            Self::Exec(_) => Source::Exec,
        }
    }
}

/// `{source: "env", allowlist?}`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct EnvProvider {
    /// The only variables that may be read; `None` for all.
    pub(crate) allowlist: Option<Vec<String>>,
}

/// `{source: "file", path, mode, …}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileProvider {
    pub(crate) path: PathBuf,
    /// `mode: "singleValue"`: the whole file is one secret.
    pub(crate) single: bool,
    pub(crate) time: Duration,
    pub(crate) max_bytes: usize,
    /// Owner and mode are not looked at.
    pub(crate) allow_insecure: bool,
}

/// `{source: "exec", command, …}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ExecProvider {
    pub(crate) command: PathBuf,
    pub(crate) args: Vec<String>,
    /// Variables that are set for it.
    pub(crate) env: Vec<(String, tokensink_types::Secret)>,
    /// Variables of ours that it gets, where they are set.
    pub(crate) pass_env: Vec<String>,
    pub(crate) trusted_dirs: Vec<PathBuf>,
    pub(crate) allow_link: bool,
    pub(crate) allow_insecure: bool,
    pub(crate) json_only: bool,
    pub(crate) bounds: Bounds,
}

impl SecretsConfig {
    /// Reads the section.
    pub(crate) fn of(config: &Config, paths: &Paths) -> Self {
        Self::of_section(config.at(&["secrets"]), paths)
    }

    /// The same of the section by itself.
    pub(crate) fn of_section(section: Option<&Value>, paths: &Paths) -> Self {
        let Some(section) = section else {
            return Self::default();
        };
        let mut read = Self::default();
        let Some(section) = section.as_object() else {
            read.problem("secrets", "it is no object");
            return read;
        };
        for (key, value) in section {
            match (key.as_str(), value.as_object()) {
                ("providers", Some(map)) => read.read_providers(map, paths),
                ("defaults", Some(map)) => read.read_defaults(map),
                ("resolution", Some(map)) => read.read_limits(map),
                ("providers" | "defaults" | "resolution", None) => {
                    read.problem(&format!("secrets.{key}"), "it is no object");
                }
                _ => read.problem(&format!("secrets.{key}"), "there is no such key"),
            }
        }
        read
    }

    /// The provider under an alias. The default one of `env` need not be written down.
    pub(crate) fn provider(&self, source: Source, alias: &str) -> Result<Provider, Problem> {
        match self.providers.get(alias) {
            Some(Ok(provider)) if provider.source() == source => Ok(provider.clone()),
            Some(Ok(provider)) => Err(Problem {
                key: format!("{}.source", provider_key(alias)),
                why: format!(
                    "the provider is of source {}, and the reference wants {}",
                    provider.source().as_str(),
                    source.as_str()
                ),
            }),
            Some(Err(problem)) => Err(problem.clone()),
            None if source == Source::Env && alias == self.default_of(source) => {
                Ok(Provider::Env(EnvProvider::default()))
            }
            None => Err(Problem {
                key: provider_key(alias),
                why: "no such provider is configured".to_owned(),
            }),
        }
    }

    /// The alias that a reference of this source without one means.
    pub(crate) fn default_of(&self, source: Source) -> &str {
        self.defaults
            .get(source.as_str())
            .map_or(DEFAULT_PROVIDER, String::as_str)
    }

    pub(crate) fn limits(&self) -> Limits {
        self.limits
    }

    /// Every alias with its provider, or what is wrong with it.
    pub(crate) fn providers(&self) -> impl Iterator<Item = (&str, &Result<Provider, Problem>)> {
        self.providers
            .iter()
            .map(|(alias, provider)| (alias.as_str(), provider))
    }

    /// Is there an entry under this alias, right or wrong?
    pub(crate) fn has(&self, alias: &str) -> bool {
        self.providers.contains_key(alias)
    }

    fn problem(&mut self, key: &str, why: &str) {
        self.problems.push(Problem {
            key: key.to_owned(),
            why: why.to_owned(),
        });
    }

    fn read_providers(&mut self, map: &Map<String, Value>, paths: &Paths) {
        for (alias, value) in map {
            if is_alias(alias) {
                self.providers
                    .insert(alias.clone(), provider(alias, value, paths));
            } else {
                self.problem(
                    &provider_key(alias),
                    "the alias is not a lower-case letter followed by up to 63 of a-z, 0-9, _ and -",
                );
            }
        }
    }

    fn read_defaults(&mut self, map: &Map<String, Value>) {
        for (key, value) in map {
            let source = Source::parse(key);
            match (source, value.as_str().filter(|alias| is_alias(alias))) {
                (Some(source), Some(alias)) => {
                    self.defaults.insert(source.as_str(), alias.to_owned());
                }
                (Some(_), None) => {
                    self.problem(&format!("secrets.defaults.{key}"), "it is no provider alias");
                }
                (None, _) => self.problem(&format!("secrets.defaults.{key}"), "there is no such source"),
            }
        }
    }

    fn read_limits(&mut self, map: &Map<String, Value>) {
        let mut fields = Fields::new("secrets.resolution".to_owned(), map);
        let mut read = || -> Result<Limits, Problem> {
            Ok(Limits {
                concurrency: size(fields.number("maxProviderConcurrency", CONCURRENCY)?),
                refs: size(fields.number("maxRefsPerProvider", REFS)?),
                batch_bytes: size(fields.number("maxBatchBytes", BATCH_BYTES)?),
            })
        };
        let read = read().and_then(|limits| fields.finish().map(|()| limits));
        match read {
            Ok(limits) => self.limits = limits,
            Err(problem) => self.problems.push(problem),
        }
    }
}

fn size(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// One entry of `secrets.providers`.
pub(crate) fn provider(alias: &str, value: &Value, paths: &Paths) -> Result<Provider, Problem> {
    let key = provider_key(alias);
    let Some(map) = value.as_object() else {
        return Err(Problem {
            key,
            why: "it is no object".to_owned(),
        });
    };
    let mut fields = Fields::new(key, map);
    let source = fields.needed("source")?;
    let provider = match Source::parse(&source) {
        Some(Source::Env) => Provider::Env(EnvProvider {
            allowlist: fields.texts("allowlist")?,
        }),
        Some(Source::File) => Provider::File(file_provider(&mut fields, paths)?),
        Some(Source::Exec) => Provider::Exec(exec_provider(&mut fields, paths)?),
        None => return Err(fields.wrong("source", "it is none of env, file and exec")),
    };
    fields.finish()?;
    Ok(provider)
}

fn file_provider(fields: &mut Fields<'_>, paths: &Paths) -> Result<FileProvider, Problem> {
    let path = fields.path("path", paths)?;
    let single = match fields.text("mode")?.as_deref() {
        None | Some("json") => false,
        Some("singleValue") => true,
        Some(_) => return Err(fields.wrong("mode", "it is neither json nor singleValue")),
    };
    Ok(FileProvider {
        path,
        single,
        time: Duration::from_millis(fields.number("timeoutMs", (TIME_MS, TIME_MS_MAX))?),
        max_bytes: size(fields.number("maxBytes", (BYTES, BYTES_MAX))?),
        allow_insecure: fields.flag("allowInsecurePath", false)?,
    })
}

fn exec_provider(fields: &mut Fields<'_>, paths: &Paths) -> Result<ExecProvider, Problem> {
    let command = fields.path("command", paths)?;
    let time_ms = fields.number("timeoutMs", (TIME_MS, TIME_MS_MAX))?;
    let quiet_ms = fields.number("noOutputTimeoutMs", (time_ms, TIME_MS_MAX))?;
    let mut trusted_dirs = Vec::new();
    for dir in fields.texts("trustedDirs")?.unwrap_or_default() {
        trusted_dirs.push(fields.absolute("trustedDirs", &dir, paths)?);
    }
    Ok(ExecProvider {
        command,
        args: fields.texts("args")?.unwrap_or_default(),
        env: fields.pairs("env")?,
        pass_env: fields.texts("passEnv")?.unwrap_or_default(),
        trusted_dirs,
        allow_link: fields.flag("allowSymlinkCommand", false)?,
        allow_insecure: fields.flag("allowInsecurePath", false)?,
        json_only: fields.flag("jsonOnly", true)?,
        bounds: Bounds {
            time: Duration::from_millis(time_ms),
            quiet: Duration::from_millis(quiet_ms),
            output_bytes: size(fields.number("maxOutputBytes", (BYTES, BYTES_MAX))?),
        },
    })
}

/// The fields of one object, each of which must be asked for.
struct Fields<'a> {
    key: String,
    map: &'a Map<String, Value>,
    asked: BTreeSet<&'static str>,
}

impl<'a> Fields<'a> {
    fn new(key: String, map: &'a Map<String, Value>) -> Self {
        Self {
            key,
            map,
            asked: BTreeSet::new(),
        }
    }

    fn wrong(&self, name: &str, why: &str) -> Problem {
        Problem {
            key: format!("{}.{name}", self.key),
            why: why.to_owned(),
        }
    }

    fn get(&mut self, name: &'static str) -> Option<&'a Value> {
        self.asked.insert(name);
        self.map.get(name)
    }

    fn text(&mut self, name: &'static str) -> Result<Option<String>, Problem> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) if !text.trim().is_empty() => Ok(Some(text.trim().to_owned())),
            Some(_) => Err(self.wrong(name, "it is no text, or an empty one")),
        }
    }

    fn needed(&mut self, name: &'static str) -> Result<String, Problem> {
        self.text(name)?.ok_or_else(|| self.wrong(name, "it is missing"))
    }

    fn path(&mut self, name: &'static str, paths: &Paths) -> Result<PathBuf, Problem> {
        let text = self.needed(name)?;
        self.absolute(name, &text, paths)
    }

    /// A path that does not depend on where we were started.
    fn absolute(&self, name: &str, text: &str, paths: &Paths) -> Result<PathBuf, Problem> {
        if !text.starts_with('/') && text != "~" && !text.starts_with("~/") {
            return Err(self.wrong(
                name,
                "it is no absolute path (a leading ~/ is the home directory)",
            ));
        }
        paths
            .expand(name, text)
            .map_err(|error| self.wrong(name, &error.to_string()))
    }

    fn flag(&mut self, name: &'static str, default: bool) -> Result<bool, Problem> {
        match self.get(name) {
            None => Ok(default),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(_) => Err(self.wrong(name, "it is neither true nor false")),
        }
    }

    /// A whole number from 1 to the second of `bounds`; the first is the default.
    fn number(&mut self, name: &'static str, bounds: (u64, u64)) -> Result<u64, Problem> {
        let (default, most) = bounds;
        match self.get(name) {
            None => Ok(default),
            Some(value) => match value.as_u64().filter(|number| (1..=most).contains(number)) {
                Some(number) => Ok(number),
                None => Err(self.wrong(name, &format!("it is no whole number from 1 to {most}"))),
            },
        }
    }

    fn texts(&mut self, name: &'static str) -> Result<Option<Vec<String>>, Problem> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        let list = value.as_array().and_then(|list| {
            list.iter()
                .map(|item| item.as_str().map(str::to_owned))
                .collect::<Option<Vec<_>>>()
        });
        list.map(Some)
            .ok_or_else(|| self.wrong(name, "it is no list of texts"))
    }

    fn pairs(&mut self, name: &'static str) -> Result<Vec<(String, tokensink_types::Secret)>, Problem> {
        let Some(value) = self.get(name) else {
            return Ok(Vec::new());
        };
        let usable = |key: &str| !key.is_empty() && !key.contains(['=', '\0']);
        let pairs = value.as_object().and_then(|map| {
            map.iter()
                .map(|(key, value)| {
                    let value = value.as_str().filter(|text| !text.contains('\0'))?;
                    usable(key).then(|| (key.clone(), value.into()))
                })
                .collect::<Option<Vec<_>>>()
        });
        pairs.ok_or_else(|| self.wrong(name, "it is no object of texts by variable name"))
    }

    /// Nothing else may be there.
    fn finish(&self) -> Result<(), Problem> {
        match self.map.keys().find(|key| !self.asked.contains(key.as_str())) {
            Some(key) => Err(self.wrong(key, "there is no such key")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokensink_testkit::MapEnvironment;

    use super::*;

    fn read(section: &Value) -> SecretsConfig {
        let env = MapEnvironment::of([("HOME", "/home/user")]);
        env.set_home(Some(PathBuf::from("/home/user")));
        let config = Config::parse(&json!({ "secrets": section }).to_string()).unwrap();
        SecretsConfig::of(&config, &Paths::resolve(&env).unwrap())
    }

    #[test]
    fn defaults_are_the_documented_ones() {
        let config = read(&json!({
            "providers": {
                "f": {"source": "file", "path": "~/s.json"},
                "x": {"source": "exec", "command": "/bin/x", "timeoutMs": 700},
            },
            "defaults": {"exec": "x"},
        }));
        let Ok(Provider::File(file)) = config.provider(Source::File, "f") else {
            panic!("no file provider")
        };
        assert_eq!(file.path, PathBuf::from("/home/user/s.json"));
        assert_eq!((file.single, file.max_bytes), (false, 1024 * 1024));
        assert_eq!(file.time, Duration::from_secs(5));
        let Ok(Provider::Exec(exec)) = config.provider(Source::Exec, config.default_of(Source::Exec)) else {
            panic!("no exec provider")
        };
        assert!(exec.json_only && !exec.allow_link && !exec.allow_insecure);
        assert_eq!(
            exec.bounds.quiet,
            Duration::from_millis(700),
            "as long as timeoutMs"
        );
        assert!(config.provider(Source::Env, "default").is_ok(), "needs no entry");
        assert_eq!(config.limits(), Limits::default());
        assert_eq!(config.problems, []);
    }

    #[test]
    fn what_is_wrong_is_named_by_its_key_and_never_quoted() {
        let cases = [
            (
                json!({"source": "exec"}),
                "secrets.providers.p.command",
                "missing",
            ),
            (
                json!({"source": "exec", "command": "op"}),
                "secrets.providers.p.command",
                "absolute",
            ),
            (
                json!({"source": "exec", "command": "/op", "trustedDir": ["/"]}),
                "secrets.providers.p.trustedDir",
                "no such key",
            ),
            (
                json!({"source": "exec", "command": "/op", "env": {"A": 1}}),
                "secrets.providers.p.env",
                "texts",
            ),
            (
                json!({"source": "exec", "command": "/op", "args": "canary"}),
                "secrets.providers.p.args",
                "list",
            ),
            (
                json!({"source": "exec", "command": "/op", "timeoutMs": 0}),
                "secrets.providers.p.timeoutMs",
                "from 1 to 120000",
            ),
            (
                json!({"source": "file", "path": "s.json"}),
                "secrets.providers.p.path",
                "absolute",
            ),
            (
                json!({"source": "file", "path": "/s", "mode": "canary"}),
                "secrets.providers.p.mode",
                "singleValue",
            ),
            (
                json!({"source": "canary"}),
                "secrets.providers.p.source",
                "none of",
            ),
            (json!("canary"), "secrets.providers.p", "no object"),
        ];
        for (entry, key, why) in cases {
            let config = read(&json!({"providers": {"p": entry, "good": {"source": "env"}}}));
            let problem = config.provider(Source::Exec, "p").unwrap_err();
            assert_eq!(problem.key, key);
            assert!(
                problem.why.contains(why) && !problem.why.contains("canary"),
                "{problem:?}"
            );
            assert!(
                config.provider(Source::Env, "good").is_ok(),
                "others are untouched"
            );
        }
        let config = read(
            &json!({"resolution": {"maxProviderConcurrency": 99}, "default": {}, "defaults": {"env": "X"}}),
        );
        let keys: Vec<&str> = config
            .problems
            .iter()
            .map(|problem| problem.key.as_str())
            .collect();
        assert_eq!(
            keys,
            [
                "secrets.resolution.maxProviderConcurrency",
                "secrets.default",
                "secrets.defaults.env"
            ]
        );
    }

    #[test]
    fn a_provider_serves_its_own_source_only() {
        let config = read(&json!({"providers": {"p": {"source": "env"}}}));
        let problem = config.provider(Source::Exec, "p").unwrap_err();
        assert_eq!(problem.key, "secrets.providers.p.source");
        assert_eq!(
            config.provider(Source::Exec, "q").unwrap_err().key,
            "secrets.providers.q"
        );
    }
}
