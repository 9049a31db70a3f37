//! TLS settings, the handshake, and its errors in words that help.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::{CertificateError, ClientConfig, RootCertStore};
use rustls_native_certs::{CertificateResult, load_certs_from_paths, load_native_certs};
use rustls_pki_types::ServerName;
use tokio_rustls::TlsConnector;

use super::dial::{Failure, Stream};
use crate::{ConnectPhase, Environment};

/// How to add a certificate authority, for hints.
const ADD_CA: &str = "set SSL_CERT_FILE=/path/to/ca.pem, or in tokensink/config.toml: [network] extra_ca = [\"/path/to/ca.pem\"]";

/// Settings with the ring provider named explicitly: a process-wide default may be missing or another one.
///
/// # Errors
/// When there is no certificate to trust, or a file that was named for it cannot be used.
pub(super) fn config(env: &dyn Environment, extra_ca: &[PathBuf]) -> Result<ClientConfig, Failure> {
    let roots = roots(env, extra_ca)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Failure::new(ConnectPhase::Tls, error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn roots(env: &dyn Environment, extra_ca: &[PathBuf]) -> Result<RootCertStore, Failure> {
    let mut roots = RootCertStore::empty();
    let file = env.var("SSL_CERT_FILE");
    let dirs = env.var("SSL_CERT_DIR");
    if file.is_none() && dirs.is_none() {
        add(&mut roots, load_native_certs());
    }
    if let Some(file) = &file {
        add_named(&mut roots, Path::new(file), "SSL_CERT_FILE")?;
    }
    for dir in dirs.iter().flat_map(|dirs| dirs.split(':')) {
        add(&mut roots, load_certs_from_paths(None, Some(Path::new(dir))));
    }
    for file in extra_ca {
        add_named(&mut roots, file, "[network] extra_ca")?;
    }
    // The variable belongs to other programs, so a mistake in it is not worth an error here.
    if let Some(file) = env.var("NODE_EXTRA_CA_CERTS") {
        add(&mut roots, load_certs_from_paths(Some(Path::new(&file)), None));
    }
    if roots.is_empty() {
        return Err(Failure::new(
            ConnectPhase::Tls,
            "no trusted certificates were found on this machine",
        )
        .hint(format!("install the package ca-certificates, or {ADD_CA}")));
    }
    Ok(roots)
}

/// Adds what can be used; the rest is worth a warning at most, since systems carry odd certificates.
fn add(roots: &mut RootCertStore, found: CertificateResult) -> usize {
    for error in &found.errors {
        tracing::warn!("certificates: {error}");
    }
    roots.add_parsable_certificates(found.certs).0
}

/// Adds a file that somebody named on purpose: it must hold certificates.
fn add_named(roots: &mut RootCertStore, file: &Path, setting: &str) -> Result<(), Failure> {
    let found = load_certs_from_paths(Some(file), None);
    let error = found.errors.first().map(ToString::to_string);
    if add(roots, found) > 0 {
        return Ok(());
    }
    let why = error.unwrap_or_else(|| "it holds no certificate".to_owned());
    Err(Failure::new(
        ConnectPhase::Tls,
        format!("the certificate file {} cannot be used: {why}", file.display()),
    )
    .hint(format!("correct or remove {setting}")))
}

/// Makes `stream` a TLS stream to `host`.
///
/// # Errors
/// With the phase TLS.
pub(super) async fn handshake(
    config: &Arc<ClientConfig>,
    host: &str,
    stream: Stream,
) -> Result<Stream, Failure> {
    let name = ServerName::try_from(host.to_owned())
        .map_err(|error| Failure::new(ConnectPhase::Tls, format!("{host}: {error}")))?;
    match TlsConnector::from(Arc::clone(config)).connect(name, stream).await {
        Ok(stream) => Ok(Box::new(stream)),
        Err(error) => Err(explain(&error)),
    }
}

/// Says what to do about the failures that users can mend (pains.md: TLS inspection, wrong clocks).
fn explain(error: &io::Error) -> Failure {
    let tls = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let failure = Failure::new(ConnectPhase::Tls, error.to_string());
    let Some(rustls::Error::InvalidCertificate(certificate)) = tls else {
        return match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => failure.hint(
                "the other side ended the handshake: is a firewall or proxy in between, or is it not https at all?",
            ),
            _ => failure,
        };
    };
    match certificate {
        CertificateError::UnknownIssuer => failure.hint(format!(
            "the certificate's issuer is not trusted here; if a proxy of your company inspects TLS, trust its \
             certificate: {ADD_CA}"
        )),
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => failure.hint(
            "compare this machine's clock with the true time (date -u); if it is right, the server's certificate \
             is out of date",
        ),
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => failure.hint(
            "another server answers under this name: check the address, the DNS and any proxy",
        ),
        _ => failure,
    }
}
