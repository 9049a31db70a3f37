//! What a login will do, decided before it does anything: which method, which redirect URI, and who can answer.
//!
//! Pure: request, definition and what is known of the surroundings come in; a plan or a precise refusal goes out.
//! Whether a port can be listened on shows only when it is tried, so the plan lists what to try and what is left then.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tokensink_host::browser;
use tokensink_providers::{
    BuildError, Definition, Flow, Method, PkceFlow, Redirect, RedirectMode, is_loopback,
};
use url::{Host as UrlHost, Url};

use crate::block::quoted;
use crate::error::{ErrorKind, Result, SinkError};
use crate::login::LoginRequest;

/// What a login must know of its surroundings.
#[derive(Debug, Clone, Default)]
pub(crate) struct Facts {
    /// Somebody can paste an answer.
    pub(crate) interactive: bool,
    /// Why no browser can be expected on this machine (spec.md 11.6).
    pub(crate) headless: Option<String>,
    /// The user wants none to be started.
    pub(crate) no_browser: bool,
}

impl Facts {
    pub(crate) fn new(env: &dyn tokensink_host::Environment, interactive: bool, no_browser: bool) -> Self {
        Self {
            interactive,
            headless: browser::is_headless(env),
            no_browser,
        }
    }

    pub(crate) fn why_no_browser(&self) -> Option<String> {
        if self.no_browser {
            return Some("--no-browser was given".to_owned());
        }
        self.headless.clone()
    }
}

/// How a login in a browser is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PkcePlan {
    /// Where to listen, in the order to try; empty where the answer is pasted from a page of the provider.
    pub(crate) loopback: Vec<Loopback>,
    /// The redirect URI where none of them can be listened on.
    pub(crate) fallback: String,
    /// A paste is asked for beside the listener.
    pub(crate) paste: bool,
    /// Why no browser is started; `None` starts one.
    pub(crate) why_no_browser: Option<String>,
}

/// A redirect URI that this machine can serve (RFC 8252 section 7.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Loopback {
    /// As the definition has it.
    pub(crate) uri: String,
    /// The addresses to listen on.
    pub(crate) hosts: Vec<IpAddr>,
    /// The port; 0 for any.
    pub(crate) port: u16,
    /// The path that the redirect goes to.
    pub(crate) path: String,
}

impl Loopback {
    fn parse(uri: &str, hosts: &[IpAddr]) -> Option<Self> {
        let url = Url::parse(uri).ok()?;
        let literal = match url.host()? {
            UrlHost::Ipv4(ip) => Some(IpAddr::V4(ip)),
            UrlHost::Ipv6(ip) => Some(IpAddr::V6(ip)),
            UrlHost::Domain(_) => None,
        };
        // `localhost` is 127.0.0.1 for some browsers and ::1 for others.
        let wanted = literal.map_or_else(
            || vec![IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)],
            |ip| vec![ip],
        );
        let mut hosts = hosts.to_vec();
        hosts.extend(
            wanted
                .into_iter()
                .filter(|ip| !hosts.contains(ip))
                .collect::<Vec<_>>(),
        );
        Some(Self {
            uri: uri.to_owned(),
            hosts,
            port: url.port_or_known_default()?,
            path: url.path().to_owned(),
        })
    }

    /// The redirect URI with the port that is listened on. A fixed port stays as it is registered; only `:0` leaves
    /// the choice to us (RFC 8252 section 7.3).
    pub(crate) fn uri_on(&self, port: u16) -> String {
        let start = self.uri.find("://").map_or(0, |at| at + 3);
        let end = self.uri[start..]
            .find(['/', '?', '#'])
            .map_or(self.uri.len(), |at| start + at);
        match self.uri[..end].strip_suffix(":0") {
            Some(origin) if self.port == 0 => format!("{origin}:{port}{}", &self.uri[end..]),
            _ => self.uri.clone(),
        }
    }
}

/// The methods of a login.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ways<'a> {
    /// The one that is tried.
    pub(crate) method: &'a Method,
    /// The login by device code that races with it where no browser can be started here, and takes its place where
    /// nobody could take its answer.
    pub(crate) device: Option<&'a Method>,
}

/// The methods of a login. One that was chosen by the user stays alone.
///
/// # Errors
/// As [`method`].
pub(crate) fn ways<'a>(
    definition: &'a Definition,
    request: &LoginRequest,
    facts: &Facts,
) -> Result<Ways<'a>> {
    let method = method(definition, request, facts)?;
    let chosen = request.method.is_some() || request.device_code;
    let mut methods = definition.methods.iter();
    let in_browser = match &method.flow {
        Flow::Pkce(_) => Some(method),
        Flow::Program(_) => None,
        // A device login that stands first is preferred where either would do.
        _ if facts.why_no_browser().is_some() => methods
            .clone()
            .find(|method| matches!(&method.flow, Flow::Pkce(flow) if completes(flow, facts))),
        _ => None,
    };
    let device = methods.find(|method| is_device(method));
    Ok(match (in_browser, device) {
        (Some(method), device @ Some(_)) if !chosen => Ways { method, device },
        _ => Ways { method, device: None },
    })
}

fn is_device(method: &Method) -> bool {
    matches!(method.flow, Flow::Device(_))
}

/// Somebody or something here can take the answer.
fn completes(flow: &PkceFlow, facts: &Facts) -> bool {
    facts.interactive || flow.redirects.iter().any(is_served_here)
}

/// The method of a login: the one that is named, the device login where that is wanted, else the first that logs in
/// by itself and can be completed here.
///
/// # Errors
/// A usage error that names what there is, or the command that stores a credential of the named method.
pub(crate) fn method<'a>(
    definition: &'a Definition,
    request: &LoginRequest,
    facts: &Facts,
) -> Result<&'a Method> {
    let logs_in =
        |method: &&Method| matches!(method.flow, Flow::Pkce(_) | Flow::Device(_) | Flow::Program(_));
    if let Some(id) = &request.method {
        let named = definition.method_named(id.as_str()).map_err(|unknown| {
            let id = unknown
                .nearest
                .clone()
                .or_else(|| unknown.known.first().map(ToString::to_string));
            SinkError::new(ErrorKind::Usage, "unknown_method", unknown.to_string())
                .with_fix_if(id.map(|id| format!("{} --method {id}", login_of(definition))))
        })?;
        if request.device_code && !is_device(named) {
            let message = format!("method {} of {} is no device login", named.id, definition.id);
            return Err(SinkError::new(ErrorKind::Usage, "not_a_device_login", message)
                .with_fix(format!("{} --device-code", login_of(definition))));
        }
        return if logs_in(&named) {
            Ok(named)
        } else {
            Err(stored_otherwise(definition, named))
        };
    }
    if request.device_code {
        return definition
            .methods
            .iter()
            .find(|method| is_device(method))
            .ok_or_else(|| no_device_login(definition));
    }
    let mut methods = definition.methods.iter().filter(logs_in);
    let completed = |method: &&Method| match &method.flow {
        Flow::Pkce(flow) => completes(flow, facts),
        _ => true,
    };
    let first = methods.clone().next();
    methods
        .find(completed)
        .or(first)
        .ok_or_else(|| no_login(definition))
}

fn is_served_here(redirect: &Redirect) -> bool {
    redirect.mode == RedirectMode::Loopback
}

/// Where the answer of a login in a browser can come from.
///
/// Somebody who sits elsewhere pastes from the provider's page where there is one, because a redirect to this machine
/// would not reach it (spec.md 11.6). Without anybody to paste, only a listener is left, however remote.
///
/// # Errors
/// When the redirect URI stands in a variable and is none.
pub(crate) fn pkce(
    flow: &PkceFlow,
    facts: &Facts,
    env: &dyn Fn(&str) -> Option<String>,
) -> std::result::Result<PkcePlan, BuildError> {
    let overridden = flow.redirect_uri_env.as_deref().and_then(env).is_some();
    let redirects = if overridden {
        let uri = flow.redirect_uri(false, env)?;
        let served_here = Url::parse(&uri).is_ok_and(|url| url.scheme() == "http" && is_loopback(&url));
        let mode = if served_here {
            RedirectMode::Loopback
        } else {
            RedirectMode::Paste
        };
        vec![Redirect { uri, mode }]
    } else {
        flow.redirects.clone()
    };
    let pasted = redirects
        .iter()
        .find(|redirect| redirect.mode == RedirectMode::Paste);
    let elsewhere = facts.headless.is_some() && facts.interactive && pasted.is_some();
    let served = redirects
        .iter()
        .filter(|redirect| is_served_here(redirect) && !elsewhere);
    let loopback = served
        .filter_map(|redirect| Loopback::parse(&redirect.uri, &flow.callback_hosts))
        .collect();
    let fallback = pasted
        .or(redirects.first())
        .map(|redirect| redirect.uri.clone())
        .unwrap_or_default();
    Ok(PkcePlan {
        loopback,
        fallback,
        paste: facts.interactive,
        why_no_browser: facts.why_no_browser(),
    })
}

/// Why no browser is started, with the way that needs none at all where the provider has one.
pub(crate) fn hinted(definition: &Definition, facts: &Facts, why: &str) -> String {
    let hint = match (&facts.headless, facts.no_browser) {
        (Some(_), false) if definition.methods.iter().any(is_device) => {
            "; --device-code logs in without a redirect"
        }
        _ => "",
    };
    format!("{why}{hint}")
}

/// The command that logs in at a provider.
pub(crate) fn login_of(definition: &Definition) -> String {
    format!("tokensink models auth login --provider {}", definition.id)
}

/// The command that makes the same login again.
pub(crate) fn again(definition: &Definition, request: &LoginRequest) -> String {
    let mut command = login_of(definition);
    if let Some(method) = &request.method {
        command.push_str(&format!(" --method {method}"));
    }
    if request.device_code {
        command.push_str(" --device-code");
    }
    if let Some(id) = &request.profile_id {
        command.push_str(&format!(" --profile-id {}", quoted(id.as_str())));
    }
    if !request.agent.is_main() {
        command.push_str(&format!(" --agent {}", request.agent));
    }
    command
}

/// The refusal of a login that nobody can complete: no listener, no terminal.
pub(crate) fn nobody_can_answer(definition: &Definition, method: &Method, why: &str) -> SinkError {
    let message = format!(
        "models auth login requires an interactive TTY: method {} of {} ends with a code that somebody has to paste, \
         because {why}, and standard input is no terminal",
        method.id, definition.id
    );
    SinkError::new(ErrorKind::Usage, "no_terminal", message).with_fix(without_terminal(definition))
}

/// The code of [`no_listener`].
pub(crate) const NO_LISTENER: &str = "no_listener";

/// The failure of a login whose answer nobody could take at the moment. Another time, or in a terminal, it works.
pub(crate) fn no_listener(definition: &Definition, why: &str, again: &str) -> SinkError {
    let message = format!("{why}, and standard input is no terminal to paste the answer in");
    let fix = format!(
        "end what stands in the way, then {again}; or {}",
        without_terminal(definition)
    );
    SinkError::new(ErrorKind::Failed, NO_LISTENER, message).with_fix(fix)
}

/// What works without a terminal.
fn without_terminal(definition: &Definition) -> String {
    let has = |wanted: fn(&Flow) -> bool| definition.methods.iter().any(|method| wanted(&method.flow));
    let mut ways = Vec::new();
    if has(|flow| matches!(flow, Flow::Device(_))) {
        ways.push(format!("{} --device-code", login_of(definition)));
    }
    if has(|flow| matches!(flow, Flow::Token(_))) {
        ways.push(format!(
            "tokensink models auth paste-token --provider {} < token.txt",
            definition.id
        ));
    }
    ways.push("run the command again in a terminal".to_owned());
    ways.join(", or ")
}

fn no_login(definition: &Definition) -> SinkError {
    let message = format!("{} has no login in a browser or by device code", definition.name);
    let error = SinkError::new(ErrorKind::Usage, "no_login_method", message);
    error.with_fix_if(
        definition
            .methods
            .first()
            .map(|method| store_command(definition, method)),
    )
}

fn no_device_login(definition: &Definition) -> SinkError {
    let message = format!("{} has no login by device code", definition.name);
    let error = SinkError::new(ErrorKind::Usage, "no_device_login", message);
    let in_browser = definition
        .methods
        .iter()
        .any(|method| matches!(method.flow, Flow::Pkce(_)));
    let fix = if in_browser {
        Some(login_of(definition))
    } else {
        definition
            .methods
            .first()
            .map(|method| store_command(definition, method))
    };
    error.with_fix_if(fix)
}

fn stored_otherwise(definition: &Definition, method: &Method) -> SinkError {
    let what = match &method.flow {
        Flow::External(external) => format!("is the login of {} and stays with it", external.cli),
        _ => "takes a credential that was made elsewhere".to_owned(),
    };
    let message = format!("method {} of {} {what}", method.id, definition.id);
    SinkError::new(ErrorKind::Usage, "no_login_method", message).with_fix(store_command(definition, method))
}

/// The command that stores what a method without a login of its own needs.
fn store_command(definition: &Definition, method: &Method) -> String {
    let id = &definition.id;
    match &method.flow {
        Flow::Token(_) if method.id.as_str() == super::SETUP_TOKEN => {
            format!("tokensink models auth setup-token --provider {id}")
        }
        Flow::Token(_) => format!("tokensink models auth paste-token --provider {id}"),
        Flow::ApiKey(_) => format!("tokensink models auth paste-api-key --provider {id}"),
        Flow::External(external) => format!("log in with {}", external.cli),
        Flow::Pkce(_) | Flow::Device(_) | Flow::Program(_) => login_of(definition),
    }
}
