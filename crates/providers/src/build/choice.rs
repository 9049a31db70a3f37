//! The auth choices of one method (spec.md 13): those that the definition names, else the usual one.

use crate::build::section::Section;
use crate::build::{Inherited, named};
use crate::definition::{Choice, Flow, ProfileName};
use crate::merge::is_disabled;
use crate::problem::Problems;
use crate::schema::{join, keyed_path};
use crate::tree::Node;
use tokensink_types::CredentialKind;

/// The choices of `method`. A method that says nothing about them has the one that OpenClaw's conventions give it,
/// `<provider>-<method>`; the login of another program has none unless the definition says so.
pub(super) fn build_choices(
    method: &Section<'_>,
    flow: &Flow,
    profile_name: &ProfileName,
    inherited: &Inherited<'_>,
    problems: &mut Problems,
) -> Vec<Choice> {
    let usual = Usual {
        method,
        flow,
        profile_name,
        inherited,
    };
    let Some(node) = method.table.get("choice") else {
        return usual.choice().into_iter().collect();
    };
    let path = join(&method.path, "choice");
    let tables = node.list().iter().filter_map(Node::table);
    tables
        .filter(|table| !is_disabled(table))
        .filter_map(|table| {
            let section = Section::new(table, keyed_path(&path, table), node.place.clone());
            usual.over(&section, problems)
        })
        .collect()
}

/// What a choice is unless its table says otherwise.
struct Usual<'a> {
    method: &'a Section<'a>,
    flow: &'a Flow,
    profile_name: &'a ProfileName,
    inherited: &'a Inherited<'a>,
}

impl Usual<'_> {
    fn choice(&self) -> Option<Choice> {
        if matches!(self.flow, Flow::External(_)) || self.inherited.template {
            return None;
        }
        let method = self.method.text("id")?.trim();
        let id = format!("{}-{method}", self.inherited.provider.trim()).to_lowercase();
        // An id may hold an underscore or a dot, an option may not.
        let word: String = id
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
            .collect();
        let option = self
            .takes_secret()
            .then(|| format!("--{}", word.trim_matches('-')));
        Some(Choice {
            option,
            ..self.plain(id)
        })
    }

    fn plain(&self, id: String) -> Choice {
        Choice {
            id,
            deprecated: Vec::new(),
            name: self
                .method
                .text("name")
                .or(self.method.text("id"))
                .unwrap_or_default()
                .to_owned(),
            hint: String::new(),
            group: self.inherited.name.to_owned(),
            option: None,
            hidden: false,
            profile_name: match self.flow {
                // A pasted credential of the wizard is the default one (spec.md 3.2).
                Flow::Token(_) | Flow::ApiKey(_) => ProfileName::Fixed("default".to_owned()),
                Flow::Pkce(_) | Flow::Device(_) | Flow::External(_) | Flow::Program(_) => {
                    self.profile_name.clone()
                }
            },
        }
    }

    fn over(&self, section: &Section<'_>, problems: &mut Problems) -> Option<Choice> {
        let plain = self.plain(section.text("id")?.trim().to_owned());
        let option = section.text("option").map(|text| text.trim().to_owned());
        if option.is_some() && !self.takes_secret() {
            let message = "this method leaves no credential that could be given on a command line";
            section.wrong("option", message, "remove it", problems);
        }
        Some(Choice {
            deprecated: section.texts("deprecated"),
            name: section.text("name").map_or(plain.name, str::to_owned),
            hint: section.text("hint").unwrap_or_default().to_owned(),
            group: section.text("group").map_or(plain.group, str::to_owned),
            option,
            hidden: section.flag("hidden"),
            profile_name: section.text("profile_name").map_or(plain.profile_name, named),
            id: plain.id,
        })
    }

    /// What is stored is a key or a token without refresh, so it can also be brought as it is.
    fn takes_secret(&self) -> bool {
        match self.flow {
            Flow::Token(_) | Flow::ApiKey(_) => true,
            Flow::Pkce(flow) => flow.client.stores != CredentialKind::OAuth,
            Flow::Device(flow) => flow.client.stores != CredentialKind::OAuth,
            Flow::Program(flow) => flow.client.stores != CredentialKind::OAuth,
            Flow::External(_) => false,
        }
    }
}
