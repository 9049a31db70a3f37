//! When two provider ids mean the same credentials (spec.md 3.1).

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use tokensink_types::ProviderId;

/// Other names of providers, spelling aliases (`z.ai` for `zai`) and auth aliases (a provider that uses another's
/// credentials) alike. Where the table comes from is the provider registry's matter.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ProviderAliases {
    canonical: BTreeMap<ProviderId, ProviderId>,
}

impl ProviderAliases {
    /// The table of `(alias, provider)`; an alias of an alias is followed to its end. In a ring of aliases, which
    /// only a wrong definition can make, the id that sorts first stands for all.
    #[must_use]
    pub fn new(pairs: impl IntoIterator<Item = (ProviderId, ProviderId)>) -> Self {
        let direct: BTreeMap<ProviderId, ProviderId> = pairs.into_iter().collect();
        let canonical = direct
            .keys()
            .map(|alias| (alias.clone(), end_of(&direct, alias).clone()))
            .collect();
        Self { canonical }
    }

    /// The provider whose credentials `id` uses; `id` itself where no alias is known.
    #[must_use]
    pub fn canonical<'a>(&'a self, id: &'a ProviderId) -> &'a ProviderId {
        self.canonical.get(id).unwrap_or(id)
    }

    /// The part of the table that these ids need.
    pub(crate) fn of(&self, ids: &BTreeSet<&ProviderId>) -> Self {
        let needed = self.canonical.iter().filter(|(alias, _)| ids.contains(alias));
        Self {
            canonical: needed.map(|(alias, id)| (alias.clone(), id.clone())).collect(),
        }
    }

    /// Do both ids use the same credentials?
    #[must_use]
    pub fn same(&self, a: &ProviderId, b: &ProviderId) -> bool {
        self.canonical(a) == self.canonical(b)
    }
}

fn end_of<'a>(direct: &'a BTreeMap<ProviderId, ProviderId>, alias: &'a ProviderId) -> &'a ProviderId {
    let mut path = vec![alias];
    let mut at = alias;
    while let Some(next) = direct.get(at) {
        if let Some(start) = path.iter().position(|seen| *seen == next) {
            return path[start..].iter().min().copied().unwrap_or(alias);
        }
        path.push(next);
        at = next;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worlds::provider;

    fn table(pairs: &[(&str, &str)]) -> ProviderAliases {
        ProviderAliases::new(pairs.iter().map(|(a, b)| (provider(a), provider(b))))
    }

    #[test]
    fn aliases_are_followed_and_rings_end() {
        let aliases = table(&[
            ("z.ai", "zai"),
            ("z-ai", "z.ai"),
            ("b", "a"),
            ("a", "b"),
            ("c", "b"),
            ("0", "b"),
            ("me", "me"),
        ]);
        let cases = [
            ("z.ai", "zai", true),
            ("z-ai", "zai", true),
            ("z-ai", "z.ai", true),
            ("a", "b", true),
            ("c", "a", true),
            ("0", "a", true),
            ("me", "me", true),
            ("a", "zai", false),
            ("other", "zai", false),
            ("other", "other", true),
        ];
        for (a, b, want) in cases {
            assert_eq!(aliases.same(&provider(a), &provider(b)), want, "{a} {b}");
            assert_eq!(aliases.same(&provider(b), &provider(a)), want, "{b} {a}");
        }
    }
}
