//! Which agent a message is for (spec.md 15.6, 15.7): the most specific binding wins, and within one degree the first.

use tokensink_types::AgentId;

/// The account of a binding or a message that names none.
const DEFAULT_ACCOUNT: &str = "default";

/// Whom somebody talks to, or where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// `dm`, `direct`, `group` or `channel`; `dm` and `direct` mean the same.
    pub kind: String,
    /// Its id at the channel.
    pub id: String,
}

impl Peer {
    /// The kinds of conversations (spec.md 15.6).
    pub const KINDS: [&str; 4] = ["dm", "direct", "group", "channel"];

    /// A conversation of a known kind; `None` for another kind or a blank id.
    #[must_use]
    pub fn new(kind: &str, id: &str) -> Option<Self> {
        let (kind, id) = (kind.trim().to_ascii_lowercase(), id.trim());
        let known = Self::KINDS.contains(&kind.as_str()) && !id.is_empty();
        known.then(|| Self {
            kind,
            id: id.to_owned(),
        })
    }

    /// Reads `kind:id`. The id may hold colons.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (kind, id) = text.split_once(':')?;
        Self::new(kind, id)
    }

    fn is(&self, other: &Self) -> bool {
        let kind = |peer: &Self| {
            let kind = peer.kind.to_ascii_lowercase();
            if kind == "dm" { "direct".to_owned() } else { kind }
        };
        self.id == other.id && kind(self) == kind(other)
    }
}

/// One entry of `bindings`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// The agent that answers.
    pub agent: AgentId,
    /// The chat program, for example `telegram`.
    pub channel: String,
    /// The account there: none for the default one, `*` for any.
    pub account: Option<String>,
    /// One conversation.
    pub peer: Option<Peer>,
    /// One server of the chat program.
    pub guild: Option<String>,
    /// One team of it.
    pub team: Option<String>,
}

/// A message that wants an agent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Message {
    /// The chat program.
    pub channel: String,
    /// The account that got it; none for the default one.
    pub account: Option<String>,
    /// The conversation.
    pub peer: Option<Peer>,
    /// The server.
    pub guild: Option<String>,
    /// The team.
    pub team: Option<String>,
}

/// How specific a binding is; the greatest wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Degree {
    /// No binding: the default agent.
    Default,
    /// Every account of the channel.
    Channel,
    /// One account.
    Account,
    /// One team.
    Team,
    /// One server.
    Guild,
    /// One conversation.
    Peer,
}

impl Degree {
    /// The word in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Channel => "channel",
            Self::Account => "account",
            Self::Team => "team",
            Self::Guild => "guild",
            Self::Peer => "peer",
        }
    }
}

/// Where a message goes, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The agent.
    pub agent: AgentId,
    /// By what.
    pub degree: Degree,
    /// The position of the binding that decided.
    pub binding: Option<usize>,
    /// The binding named an agent that does not exist, so the default one answers.
    pub unknown_agent: Option<AgentId>,
}

/// Routes a message. `agents` are those that exist.
#[must_use]
pub fn route(bindings: &[Binding], message: &Message, agents: &[AgentId], default: &AgentId) -> Route {
    let fitting = bindings
        .iter()
        .enumerate()
        .filter(|(_, binding)| binding.fits(message));
    // Of several with the same degree the first one counts, so the search goes backwards.
    let best = fitting.rev().max_by_key(|(_, binding)| binding.degree());
    match best {
        None => Route {
            agent: default.clone(),
            degree: Degree::Default,
            binding: None,
            unknown_agent: None,
        },
        Some((at, binding)) => {
            let known = agents.contains(&binding.agent);
            Route {
                agent: if known { &binding.agent } else { default }.clone(),
                degree: binding.degree(),
                binding: Some(at),
                unknown_agent: (!known).then(|| binding.agent.clone()),
            }
        }
    }
}

impl Binding {
    /// Do all of its conditions hold?
    fn fits(&self, message: &Message) -> bool {
        let account = self.account.as_deref().unwrap_or(DEFAULT_ACCOUNT);
        let theirs = message.account.as_deref().unwrap_or(DEFAULT_ACCOUNT);
        let same = |wanted: &Option<String>, found: &Option<String>| wanted.is_none() || wanted == found;
        self.channel.eq_ignore_ascii_case(&message.channel)
            && (account == "*" || account == theirs)
            && same(&self.guild, &message.guild)
            && same(&self.team, &message.team)
            && self
                .peer
                .as_ref()
                .is_none_or(|peer| message.peer.as_ref().is_some_and(|other| peer.is(other)))
    }

    /// How specific it is.
    #[must_use]
    pub fn degree(&self) -> Degree {
        if self.peer.is_some() {
            Degree::Peer
        } else if self.guild.is_some() {
            Degree::Guild
        } else if self.team.is_some() {
            Degree::Team
        } else if self.account.as_deref() == Some("*") {
            Degree::Channel
        } else {
            Degree::Account
        }
    }

    /// What it is for, in one line: the channel, then each further condition as `key=value`.
    #[must_use]
    pub fn description(&self) -> String {
        let peer = self
            .peer
            .as_ref()
            .map(|peer| format!("{}:{}", peer.kind, peer.id));
        let conditions = [
            ("accountId", &self.account),
            ("peer", &peer),
            ("guild", &self.guild),
            ("team", &self.team),
        ];
        let mut text = self.channel.clone();
        for (key, value) in conditions {
            if let Some(value) = value {
                text += &format!(" {key}={value}");
            }
        }
        text
    }

    /// Do both claim the same messages? Two agents cannot (spec.md 15.6).
    #[must_use]
    pub fn claims_the_same(&self, other: &Self) -> bool {
        let account = |binding: &Self| {
            binding
                .account
                .clone()
                .unwrap_or_else(|| DEFAULT_ACCOUNT.to_owned())
        };
        let peers = match (&self.peer, &other.peer) {
            (Some(one), Some(other)) => one.is(other),
            (one, other) => one.is_none() && other.is_none(),
        };
        self.channel.eq_ignore_ascii_case(&other.channel)
            && account(self) == account(other)
            && peers
            && self.guild == other.guild
            && self.team == other.team
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent(name: &str) -> AgentId {
        AgentId::normalise(name)
    }

    fn to(name: &str) -> Binding {
        Binding {
            agent: agent(name),
            channel: "telegram".to_owned(),
            account: None,
            peer: None,
            guild: None,
            team: None,
        }
    }

    fn peer(kind: &str, id: &str) -> Option<Peer> {
        Some(Peer {
            kind: kind.to_owned(),
            id: id.to_owned(),
        })
    }

    fn text(value: &str) -> Option<String> {
        Some(value.to_owned())
    }

    fn bindings() -> Vec<Binding> {
        vec![
            Binding {
                account: text("*"),
                ..to("any")
            },
            to("plain"),
            Binding {
                account: text("biz"),
                ..to("biz")
            },
            Binding {
                team: text("t1"),
                ..to("team")
            },
            Binding {
                guild: text("g1"),
                ..to("guild")
            },
            Binding {
                peer: peer("dm", "42"),
                ..to("peer")
            },
            Binding {
                peer: peer("direct", "42"),
                ..to("late")
            },
            Binding {
                peer: peer("group", "9"),
                guild: text("g1"),
                ..to("both")
            },
            Binding {
                channel: "discord".to_owned(),
                ..to("gone")
            },
        ]
    }

    #[test]
    fn the_most_specific_binding_wins() {
        let agents: Vec<AgentId> = [
            "any", "plain", "biz", "team", "guild", "peer", "late", "both", "main",
        ]
        .map(agent)
        .to_vec();
        let message = Message {
            channel: "Telegram".to_owned(),
            ..Message::default()
        };
        let cases = [
            (message.clone(), "plain", Degree::Account),
            (
                Message {
                    account: text("biz"),
                    ..message.clone()
                },
                "biz",
                Degree::Account,
            ),
            (
                Message {
                    account: text("else"),
                    ..message.clone()
                },
                "any",
                Degree::Channel,
            ),
            (
                Message {
                    team: text("t1"),
                    ..message.clone()
                },
                "team",
                Degree::Team,
            ),
            (
                Message {
                    team: text("t1"),
                    guild: text("g1"),
                    ..message.clone()
                },
                "guild",
                Degree::Guild,
            ),
            (
                Message {
                    peer: peer("direct", "42"),
                    guild: text("g1"),
                    ..message.clone()
                },
                "peer",
                Degree::Peer,
            ),
            (
                Message {
                    peer: peer("group", "9"),
                    guild: text("g1"),
                    ..message.clone()
                },
                "both",
                Degree::Peer,
            ),
            (
                Message {
                    peer: peer("group", "9"),
                    ..message.clone()
                },
                "plain",
                Degree::Account,
            ),
            (
                Message {
                    peer: peer("group", "42"),
                    ..message.clone()
                },
                "plain",
                Degree::Account,
            ),
            (
                Message {
                    channel: "slack".to_owned(),
                    ..message
                },
                "main",
                Degree::Default,
            ),
        ];
        for (message, wanted, degree) in cases {
            let route = route(&bindings(), &message, &agents, &agent("main"));
            assert_eq!(
                (route.agent.as_str(), route.degree),
                (wanted, degree),
                "{message:?}"
            );
        }
    }

    #[test]
    fn a_binding_to_nobody_goes_to_the_default_agent_and_says_so() {
        let message = Message {
            channel: "discord".to_owned(),
            ..Message::default()
        };
        let route = route(&bindings(), &message, &[agent("main")], &agent("main"));
        assert_eq!(route.agent, agent("main"));
        assert_eq!(
            (route.binding, route.unknown_agent),
            (Some(8), Some(agent("gone")))
        );
    }

    #[test]
    fn peers_are_read_and_bindings_described() {
        let cases = [
            ("DM:42", peer("dm", "42")),
            ("group: a:b ", peer("group", "a:b")),
            ("thread:1", None),
            ("dm:", None),
            ("dm", None),
            ("", None),
        ];
        for (text, wanted) in cases {
            assert_eq!(Peer::parse(text), wanted, "{text:?}");
        }
        let all = Binding {
            account: text("biz"),
            peer: peer("group", "9"),
            guild: text("g1"),
            team: text("t1"),
            ..to("a")
        };
        assert_eq!(
            all.description(),
            "telegram accountId=biz peer=group:9 guild=g1 team=t1"
        );
        assert_eq!(to("a").description(), "telegram");
    }

    #[test]
    fn two_claims_of_the_same() {
        assert!(to("a").claims_the_same(&Binding {
            account: text("default"),
            ..to("b")
        }));
        assert!(!to("a").claims_the_same(&Binding {
            account: text("*"),
            ..to("b")
        }));
        let dm = Binding {
            peer: peer("dm", "1"),
            ..to("a")
        };
        assert!(dm.claims_the_same(&Binding {
            peer: peer("direct", "1"),
            ..to("b")
        }));
        assert!(!dm.claims_the_same(&to("b")));
    }
}
