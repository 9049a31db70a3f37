//! `models auth setup-token`, `paste-token` and `paste-api-key`.

use tokensink_sink::{PasteRequest, Secret};

use super::login::print_outcome;
use super::{App, somebody_there};
use crate::args::{PasteKeyArgs, PasteTokenArgs, SecretInput, SetupTokenArgs};
use crate::exit::{OK, Outcome};
use crate::secret_input;

/// Stores a token that `claude setup-token` made (spec.md 11.7).
pub(super) fn setup_token(app: &mut App<'_>, agent: Option<&str>, args: SetupTokenArgs) -> Outcome {
    let agent = app.agent(agent)?;
    if !args.yes && args.input.from_file.is_none() && somebody_there() {
        app.printer.note(
            "Run `claude setup-token` on any machine with a browser, then paste the token that it prints.",
        );
    }
    let request = PasteRequest {
        agent,
        provider: args.provider,
        profile_id: args.profile_id,
        expires_in: args.expires_in,
        setup_token: true,
    };
    store_token(app, &request, &args.input)
}

/// Stores a bearer token made elsewhere (spec.md 11.8).
pub(super) fn token(app: &mut App<'_>, agent: Option<&str>, args: PasteTokenArgs) -> Outcome {
    let request = PasteRequest {
        agent: app.agent(agent)?,
        provider: args.provider,
        profile_id: args.profile_id,
        expires_in: args.expires_in,
        setup_token: false,
    };
    store_token(app, &request, &args.input)
}

fn store_token(app: &mut App<'_>, request: &PasteRequest, input: &SecretInput) -> Outcome {
    let sink = app.sink;
    let check = |secret: &Secret| sink.check_secret(&request.provider, request.setup_token, secret);
    let prompt = format!("Paste token for {}", request.provider);
    let secret = secret_input::read(input, &*sink.host().files, &prompt, &check)?;
    let outcome = sink.store_token(request, secret)?;
    print_outcome(app, &outcome, true)?;
    Ok(OK)
}

/// Stores an API key (spec.md 11.9).
pub(super) fn api_key(app: &mut App<'_>, agent: Option<&str>, args: PasteKeyArgs) -> Outcome {
    let request = PasteRequest {
        agent: app.agent(agent)?,
        provider: args.provider,
        profile_id: args.profile_id,
        expires_in: None,
        setup_token: false,
    };
    let prompt = format!("Paste API key for {}", request.provider);
    let secret = secret_input::read(&args.input, &*app.sink.host().files, &prompt, &|_| Ok(()))?;
    let outcome = app.sink.store_api_key(&request, secret)?;
    print_outcome(app, &outcome, true)?;
    Ok(OK)
}
