//! `service …`: the gateway as a service of the system.

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};
use tokensink_sink::ServiceManagerKind;

/// `service`.
#[derive(Debug, Args)]
pub(crate) struct ServiceArgs {
    #[command(subcommand)]
    pub(crate) command: ServiceCommand,
}

/// The commands under `service`.
#[derive(Debug, Subcommand)]
pub(crate) enum ServiceCommand {
    /// Write the file by which the system starts the gateway by itself
    Install(ServiceInstallArgs),
    /// Remove that file
    Uninstall(ServiceFileArgs),
    /// Tell how it stands with the service, and which gateways run
    Status(ServiceFileArgs),
}

impl ServiceCommand {
    /// Whether it was asked for JSON.
    pub(crate) fn wants_json(&self) -> bool {
        match self {
            Self::Install(args) => args.file.json,
            Self::Uninstall(args) | Self::Status(args) => args.json,
        }
    }
}

/// `service install`.
#[derive(Debug, Args)]
pub(crate) struct ServiceInstallArgs {
    /// Only print what would be written
    #[arg(long)]
    pub(crate) print: bool,

    /// The port of the gateway (default: 7465)
    #[arg(long, value_name = "N")]
    pub(crate) port: Option<u16>,

    #[command(flatten)]
    pub(crate) file: ServiceFileArgs,
}

/// What the commands under `service` have in common.
#[derive(Debug, Args)]
pub(crate) struct ServiceFileArgs {
    /// Who runs services (default: what this system has)
    #[arg(long, value_name = "NAME", value_parser = manager_parser())]
    pub(crate) manager: Option<ServiceManagerKind>,

    /// Print an object
    #[arg(long)]
    pub(crate) json: bool,
}

fn manager_parser() -> impl TypedValueParser<Value = ServiceManagerKind> {
    let words = ServiceManagerKind::ALL.map(|kind| PossibleValue::new(kind.as_str()));
    PossibleValuesParser::new(words).map(|word| {
        let all = ServiceManagerKind::ALL.into_iter();
        all.fold(ServiceManagerKind::Systemd, |kind, one| {
            if one.as_str() == word { one } else { kind }
        })
    })
}
