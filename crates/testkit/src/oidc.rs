//! The npm package `oidc-provider` as a counterpart: the rig in `tests/oidc`, started and ended with the test.

#![expect(clippy::disallowed_methods, reason = "the rig is a real process of the test")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::loopback::get;

/// The running rig. It ends with this value: its standard input closes.
#[derive(Debug)]
pub struct Oidc {
    child: Child,
    issuer: String,
}

impl Oidc {
    /// Starts the rig with automatic sign-in and the options of `tests/oidc/server.mjs`.
    ///
    /// # Panics
    /// When it is not installed or does not start; the message says what to run.
    #[must_use]
    pub fn start(args: &[&str]) -> Self {
        Self::start_with(args, "1")
    }

    /// As [`Oidc::start`], but a page asks who signs in: for tests with a browser.
    ///
    /// # Panics
    /// As [`Oidc::start`].
    #[must_use]
    pub fn start_with_pages(args: &[&str]) -> Self {
        Self::start_with(args, "0")
    }

    fn start_with(args: &[&str], auto: &str) -> Self {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/oidc");
        assert!(
            dir.join("node_modules/oidc-provider").is_dir(),
            "the npm package oidc-provider is not installed; run: npm ci --prefix tests/oidc"
        );
        let mut child = Command::new("node")
            .arg(dir.join("server.mjs"))
            .args(args)
            .env("AUTO", auto)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("node starts; install Node 20.19 or newer");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("piped");
        BufReader::new(stdout).read_line(&mut line).expect("a line");
        let ready: Value =
            serde_json::from_str(&line).expect("the rig prints one line of JSON when it is ready");
        let issuer = ready["issuer"]
            .as_str()
            .expect("the line has an issuer")
            .to_owned();
        Self { child, issuer }
    }

    /// The URL of `path` (with a slash in front) at the rig.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.issuer)
    }

    /// The books: `token_posts` and `granted` by grant type, `refused`, `refreshes`, `reuses`, `revocations`.
    ///
    /// # Panics
    /// When the rig does not answer.
    #[must_use]
    pub fn ledger(&self) -> Value {
        get(&self.url("/__ledger")).json()
    }

    /// The definition of a provider `id` that points at the rig, in the format that a user writes: methods `oauth`
    /// (PKCE) and `device` (RFC 8628). Its access tokens are opaque, so the identity comes from the ID token.
    #[must_use]
    pub fn provider_toml(&self, id: &str) -> String {
        let method = |name: &str, kind: &str, own: &str| {
            format!(
                "\n[[auth]]\nid = \"{name}\"\nkind = \"{kind}\"\nclient_id = \"rig\"\n\
                 token_endpoint = \"{issuer}/token\"\nrevocation_endpoint = \"{issuer}/token/revocation\"\n\
                 scopes = [\"openid\", \"email\", \"offline_access\"]\n\
                 identity = {{ from = \"id_token\", account = \"/sub\", email = \"/email\" }}\n\
                 rotation = \"always\"\n{own}",
                issuer = self.issuer,
            )
        };
        let pkce = format!(
            "authorization_endpoint = \"{}/auth\"\nredirect_uri = \"http://127.0.0.1:0/auth/callback\"\n\
             authorize_params = {{ prompt = \"consent\" }}\n",
            self.issuer
        );
        let device = format!(
            "device_authorization_endpoint = \"{}/device/auth\"\ndevice_dialect = \"rfc8628\"\n",
            self.issuer
        );
        format!(
            "id = \"{id}\"\nname = \"oidc-provider\"\nbilling = \"subscription\"\n\n[api]\n\
             kind = \"openai-chat\"\nbase_url = \"{}/v1\"\nheader = \"authorization\"\nscheme = \"Bearer\"\n\
             models = [\"rig-small\"]\n{}{}",
            self.issuer,
            method("oauth", "pkce", &pkce),
            method("device", "device", &device)
        )
    }
}

impl Drop for Oidc {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        // It ends by itself; a test that fails already says why.
        let _ = self.child.wait();
    }
}
