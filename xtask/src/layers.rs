//! `cargo xtask layers`: who may use whom.
//!
//! [`TABLE`] is the rule and the only place where it is written down for the machine. A normal or build dependency
//! between two of our crates that is not in it fails the check; so does a crate that is not in it at all. The pure
//! crates may besides use only the outside crates that are listed for them, none of which does I/O.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use crate::run::{Failure, cargo, output_of};

/// One row of the table.
struct Layer {
    /// The crate without the `tokensink-` prefix.
    name: &'static str,
    /// Which of ours it may use.
    ours: &'static [&'static str],
    /// Which outside crates it may use; `None` where that is left to review and deny.toml.
    outside: Option<&'static [&'static str]>,
}

/// From the bottom up: a crate uses only crates that stand above it in this list.
const TABLE: &[Layer] = &[
    Layer {
        name: "types",
        ours: &[],
        outside: Some(&["http", "serde", "sha2", "thiserror", "zeroize"]),
    },
    Layer {
        name: "oauth",
        ours: &["types"],
        outside: Some(&[
            "base64",
            "hex",
            "http",
            "httpdate",
            "percent-encoding",
            "serde",
            "serde_json",
            "sha2",
            "thiserror",
            "url",
            "zeroize",
        ]),
    },
    Layer {
        name: "policy",
        ours: &["types"],
        outside: Some(&["jiff", "serde", "serde_json", "thiserror"]),
    },
    Layer {
        name: "refresh",
        ours: &["types"],
        outside: Some(&["serde", "thiserror"]),
    },
    Layer {
        name: "host",
        ours: &["types"],
        outside: None,
    },
    Layer {
        name: "providers",
        ours: &["types", "oauth"],
        outside: Some(&[
            "http",
            "percent-encoding",
            "serde",
            "serde_json",
            "strsim",
            "thiserror",
            "toml",
            "toml_edit",
            "url",
            "zeroize",
        ]),
    },
    Layer {
        name: "store",
        ours: &["types", "host"],
        outside: None,
    },
    Layer {
        name: "neighbours",
        // oauth for the claims of their tokens: two readers of a JWT would come to differ.
        ours: &["types", "oauth", "host", "store"],
        outside: None,
    },
    // The authorization server stands on the HTTP server of host.
    Layer {
        name: "authserver",
        ours: &["types", "oauth", "host"],
        outside: None,
    },
    Layer {
        name: "sink",
        ours: &[
            "types",
            "oauth",
            "policy",
            "refresh",
            "host",
            "providers",
            "store",
            "neighbours",
        ],
        outside: None,
    },
    Layer {
        name: "gateway",
        // host for connecting: its own pool stands on the dialer that the refresh stands on.
        ours: &["types", "host", "sink"],
        outside: None,
    },
    // Not sink: what is put to the test is a process, ours like anybody's.
    Layer {
        name: "conformance",
        ours: &["types", "oauth", "host", "authserver"],
        outside: None,
    },
    // The command builds the one real host and hands it down.
    Layer {
        name: "cli",
        ours: &["types", "host", "sink", "gateway", "authserver", "conformance"],
        outside: None,
    },
    Layer {
        name: "testkit",
        ours: &["types", "host"],
        outside: None,
    },
    // For tests and fuzz targets only, as testkit is; nothing may use it.
    Layer {
        name: "properties",
        ours: &[
            "types",
            "oauth",
            "policy",
            "host",
            "providers",
            "store",
            "neighbours",
            "sink",
            "gateway",
            "testkit",
        ],
        outside: None,
    },
    // What the benchmarks hold us against; it must use nothing of ours. Its proxy, upstream and clients talk to sockets.
    Layer {
        name: "baseline",
        ours: &[],
        outside: Some(&[
            "clap",
            "http",
            "hyper",
            "hyper-util",
            "memchr",
            "rcgen",
            "rustls",
            "serde_json",
            "signal-hook",
            "tokio",
            "tokio-rustls",
        ]),
    },
    Layer {
        name: "xtask",
        ours: &[],
        outside: None,
    },
];

/// Only tests may use it.
const DEV_ONLY: &str = "testkit";

/// Checks this workspace.
pub(crate) fn run() -> Result<(), Failure> {
    let metadata = output_of(&mut cargo(["metadata", "--format-version", "1", "--no-deps"]))
        .ok_or_else(|| Failure::new("`cargo metadata` failed; run it to see why"))?;
    let edges = edges(&metadata).map_err(Failure::new)?;
    let violations = check(&edges);
    if violations.is_empty() {
        println!("   {} crates keep to the table", edges.len());
        return Ok(());
    }
    for violation in &violations {
        println!("   {violation}");
    }
    Err(Failure::new(format!(
        "the layers are broken in {} place(s); the table is in xtask/src/layers.rs",
        violations.len()
    )))
}

/// The dependencies that count, by crate: the crate's short name, and the names of what it uses.
type Edges = BTreeMap<String, Vec<String>>;

/// Reads the answer of `cargo metadata --no-deps`. Development dependencies are left out: tests may look down and
/// sideways.
fn edges(metadata: &str) -> Result<Edges, String> {
    let metadata: Value = serde_json::from_str(metadata)
        .map_err(|error| format!("`cargo metadata` printed no JSON: {error}"))?;
    let packages = metadata["packages"]
        .as_array()
        .ok_or("`cargo metadata` lists no packages")?;
    let mut edges = Edges::new();
    for package in packages {
        let name = package["name"].as_str().ok_or("a package has no name")?;
        let used = edges.entry(short(name).to_owned()).or_default();
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            if dependency["kind"] != "dev" {
                used.extend(dependency["name"].as_str().map(str::to_owned));
            }
        }
    }
    Ok(edges)
}

fn short(package: &str) -> &str {
    package.strip_prefix("tokensink-").unwrap_or(package)
}

/// A dependency that the table does not allow.
#[derive(Debug, PartialEq, Eq)]
struct Violation {
    /// The crate that uses.
    from: String,
    /// What it uses; `None` when the crate itself is not in the table.
    to: Option<String>,
    /// The rule that is broken.
    rule: String,
    /// What to do.
    fix: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.to {
            Some(to) => write!(f, "{} -> {to}", self.from)?,
            None => f.write_str(&self.from)?,
        }
        write!(f, "\n      rule: {}\n      fix:  {}", self.rule, self.fix)
    }
}

/// Holds the edges against the table.
fn check(edges: &Edges) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (from, used) in edges {
        let Some(layer) = TABLE.iter().find(|layer| layer.name == from) else {
            violations.push(Violation {
                from: from.clone(),
                to: None,
                rule: "every crate has a row in the table".to_owned(),
                fix: "add a row to TABLE in xtask/src/layers.rs that says what it may use".to_owned(),
            });
            continue;
        };
        violations.extend(used.iter().filter_map(|name| {
            let is_ours = name.starts_with("tokensink-") || edges.contains_key(name);
            let (rule, fix) = if is_ours {
                ours(layer, short(name))?
            } else {
                outside(layer, name)?
            };
            Some(Violation {
                from: from.clone(),
                to: Some(short(name).to_owned()),
                rule,
                fix,
            })
        }));
    }
    violations
}

/// The rule that a use of our crate `name` breaks, with the fix.
fn ours(layer: &Layer, name: &str) -> Option<(String, String)> {
    if layer.ours.contains(&name) {
        return None;
    }
    if name == DEV_ONLY {
        return Some((
            format!("{DEV_ONLY} is for tests only"),
            format!(
                "move it to [dev-dependencies] in {}/Cargo.toml",
                folder(layer.name)
            ),
        ));
    }
    let allowed = if layer.ours.is_empty() {
        "none of our crates".to_owned()
    } else {
        layer.ours.join(", ")
    };
    let fix = if may_use(name, layer.name) {
        format!(
            "{name} stands above {} in the flow; pass the value down, or move the shared part to types",
            layer.name
        )
    } else {
        format!("move what needs {name} to a crate that may use both, or pass it in as a value or a port")
    };
    Some((format!("{} may use {allowed}", layer.name), fix))
}

/// The rule that a use of the outside crate `name` breaks, with the fix.
fn outside(layer: &Layer, name: &str) -> Option<(String, String)> {
    let allowed = layer.outside?;
    if allowed.contains(&name) {
        return None;
    }
    Some((
        format!(
            "{} is pure; outside crates it may use: {}",
            layer.name,
            allowed.join(", ")
        ),
        format!(
            "do the work in host, store or sink and pass the result in; if {name} does no I/O, add it to the row of \
             {} in xtask/src/layers.rs",
            layer.name
        ),
    ))
}

fn folder(name: &str) -> String {
    match name {
        "xtask" => name.to_owned(),
        "baseline" => format!("benches/{name}"),
        _ => format!("crates/{name}"),
    }
}

/// Does `from` use `to`, directly or through others, by the table?
fn may_use(from: &str, to: &str) -> bool {
    TABLE
        .iter()
        .find(|layer| layer.name == from)
        .is_some_and(|layer| layer.ours.iter().any(|next| *next == to || may_use(next, to)))
}

#[cfg(test)]
mod tests;
