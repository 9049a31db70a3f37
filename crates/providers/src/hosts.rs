//! Where a provider's credentials go: every host that its definition names, for people who are asked to trust it.

use url::Url;

use crate::definition::{Definition, Flow, Method, OAuthClient};

impl Definition {
    /// Scheme and host (with port) of every address that a login, a refresh or a lease of this provider may send a
    /// secret to, each once, in the order of the definition. Discovered endpoints are stood for by their issuer;
    /// where a plugin's program connects to, nobody but itself knows.
    #[must_use]
    pub fn secret_hosts(&self) -> Vec<String> {
        let mut hosts = Vec::new();
        let mut add = |url: Option<&Url>| {
            if let Some(origin) = url.map(|url| url.origin().ascii_serialization())
                && !hosts.contains(&origin)
            {
                hosts.push(origin);
            }
        };
        for method in &self.methods {
            method.secret_urls().into_iter().for_each(&mut add);
        }
        add(self.api.base_url.as_ref());
        for method in &self.methods {
            add(method.api.base_url.as_ref());
        }
        hosts
    }
}

impl Method {
    fn secret_urls(&self) -> Vec<Option<&Url>> {
        match &self.flow {
            Flow::Pkce(flow) => {
                let mut urls = vec![flow.authorization_endpoint.as_ref()];
                urls.extend(client_urls(&flow.client));
                urls
            }
            Flow::Device(flow) => {
                let mut urls = vec![
                    flow.device_authorization_endpoint.as_ref(),
                    flow.poll_endpoint.as_ref(),
                ];
                urls.extend(client_urls(&flow.client));
                urls
            }
            Flow::Token(_) | Flow::ApiKey(_) | Flow::External(_) | Flow::Program(_) => Vec::new(),
        }
    }
}

fn client_urls(client: &OAuthClient) -> [Option<&Url>; 5] {
    [
        client.issuer.as_ref(),
        client.token_endpoint.as_ref(),
        client.revocation_endpoint.as_ref(),
        client.userinfo_endpoint.as_ref(),
        client.runtime_key.as_ref().map(|key| &key.endpoint),
    ]
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::registry::{Registry, draft};

    #[test]
    fn every_host_is_named_once() {
        let text = r#"
            id = "rig"
            billing = "free"
            [api]
            kind = "openai-chat"
            base_url = "https://api.rig.example/v1"
            [[auth]]
            id = "oauth"
            kind = "pkce"
            client_id = "rig"
            authorization_endpoint = "https://login.rig.example/auth"
            token_endpoint = "https://login.rig.example/token"
            revocation_endpoint = "https://end.rig.example:8443/revoke"
            redirect_uri = "http://127.0.0.1:1455/cb"
            [[auth]]
            id = "key"
            kind = "api_key"
            [auth.api]
            base_url = "http://localhost:9/v1"
        "#;
        let definition = draft(Path::new("rig.toml"), text, &Registry::builtin()).unwrap();
        assert_eq!(
            definition.secret_hosts(),
            [
                "https://login.rig.example",
                "https://end.rig.example:8443",
                "https://api.rig.example",
                "http://localhost:9",
            ]
        );
    }
}
