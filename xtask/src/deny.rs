//! `cargo xtask deny`: licences, bans and sources of everything we depend on, by the rules in deny.toml.

use crate::needs;
use crate::run::{Failure, cargo, run as run_program};

/// Checks with cargo-deny, which is compiled first where it is missing. Only `advisories` needs the network.
pub(crate) fn run(advisories: bool) -> Result<(), Failure> {
    needs::cargo_deny()?;
    // Without the option every duplicate brings a page of tree.
    let check = ["deny", "check", "--hide-inclusion-graph"];
    run_program(cargo(check).args(["licenses", "bans", "sources"]))?;
    if advisories {
        run_program(cargo(check).arg("advisories"))?;
    }
    Ok(())
}
