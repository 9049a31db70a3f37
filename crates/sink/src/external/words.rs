//! The commands that put another program's login right, and what stands in the way of it, in words.

use tokensink_neighbours::Neighbour;
use tokensink_providers::Flow;
use tokensink_refresh::{Death, Standing};
use tokensink_types::ProviderId;

use crate::block::{Block, login_command};
use crate::owner::{Keeper, Target};
use crate::refresher::external_method;
use crate::sink::Sink;

impl Sink {
    /// The command after which the grant works again: a login where it is kept, or, where it is only read, the
    /// command that makes its program renew it.
    pub(crate) fn remedy(&self, target: &Target, provider: &ProviderId) -> String {
        let externals = self.externals();
        let external = target.place().and_then(|key| externals.at(key));
        match (&target.keeper, external) {
            (Keeper::Cooperative(_), Some(one)) => cli_login_command(one.neighbour()),
            (Keeper::Borrowed(_), Some(one)) => self.renew_command(one.neighbour()),
            _ => login_command(provider, &target.profile, &target.owner),
        }
    }

    /// The command that makes the program renew its own login, by the provider's definition.
    pub(crate) fn renew_command(&self, neighbour: Neighbour) -> String {
        let definition = neighbour
            .provider()
            .and_then(|provider| self.registry().get(&provider));
        let method = definition.and_then(|definition| external_method(definition, neighbour));
        let command = method.and_then(|method| match &method.flow {
            Flow::External(external) => external.renew_command.clone(),
            _ => None,
        });
        command.unwrap_or_else(|| neighbour.command().to_owned())
    }

    /// The block that a standing means for a grant that is kept there.
    pub(crate) fn block_of(&self, standing: Standing, target: &Target) -> Block {
        let externals = self.externals();
        match (&standing, &target.keeper) {
            (Standing::Dead(Death::NoRefreshToken), Keeper::Borrowed(key)) => {
                // Whose it is to refresh could not be told at this moment: that is no reason to ask for a login.
                if let Some(trouble) = externals.at(key).and_then(super::Chosen::passing_trouble) {
                    let reason = format!("{} is not refreshed now: {}", target.profile, trouble.why);
                    return Block {
                        fix: trouble.fix.clone(),
                        ..Block::unstable(reason)
                    };
                }
                let neighbour = externals.at(key).map(super::Chosen::neighbour);
                neighbour.map_or_else(
                    || Block::of(standing.clone(), &target.profile, self.now()),
                    |neighbour| Block::borrowed_ended(neighbour, &self.renew_command(neighbour)),
                )
            }
            _ => Block::of(standing, &target.profile, self.now()),
        }
    }
}

/// The program's own login.
pub(crate) fn cli_login_command(neighbour: Neighbour) -> String {
    let rest = match neighbour {
        Neighbour::ClaudeCode | Neighbour::OpenCode => " auth login",
        Neighbour::Codex => " login",
        // They ask for a login by themselves when they are started.
        Neighbour::QwenCode | Neighbour::GeminiCli | Neighbour::MiniMax => "",
    };
    format!("{}{rest}", neighbour.command())
}

/// The program's own logout.
pub(crate) fn logout_command(neighbour: Neighbour) -> String {
    let rest = match neighbour {
        Neighbour::ClaudeCode | Neighbour::OpenCode => " auth logout",
        Neighbour::Codex => " logout",
        Neighbour::QwenCode | Neighbour::GeminiCli | Neighbour::MiniMax => "",
    };
    format!("{}{rest}", neighbour.command())
}

/// The command that sets a mode.
pub(crate) fn set_command(neighbour: Neighbour, mode: super::ExternalMode) -> String {
    format!("tokensink external set {neighbour} {mode}")
}
