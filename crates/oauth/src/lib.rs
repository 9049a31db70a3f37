//! OAuth 2.0 as pure request builders and response parsers.
//!
//! For everybody who talks to an authorization server: builders give an `http::Request<Body>`, parsers take a
//! complete `http::Response<Body>`. Nothing here does I/O, reads a clock or draws randomness: instants and random
//! bytes are arguments. What it promises: secrets leave only inside a [`tokensink_types::Body`], a
//! [`tokensink_types::Secret`] or the authorization URL; text that came from a server is cut, cleaned of control
//! characters and of every secret that was sent before anybody sees it; no input makes a parser panic. What it does
//! deliberately not know: which provider needs what (that is data in `tokensink-providers`), and when a request may
//! be sent (that is `tokensink-refresh`).
//!
//! | to do | module |
//! |---|---|
//! | code verifier, code challenge, state (RFC 7636) | [`pkce`] |
//! | the URL a browser is sent to (RFC 6749 section 4.1.1) | [`authorize`] |
//! | what comes back on the loopback port, or by paste (section 4.1.2) | [`callback`], [`paste`] |
//! | token requests and what their answers mean (sections 4.1.3 to 6) | [`request`], [`token`], [`mod@merge`] |
//! | who a grant belongs to | [`jwt`], [`identity`] |
//! | the device flow and two dialects of it (RFC 8628) | [`device`] |
//! | revocation (RFC 7009), metadata (RFC 8414) | [`revoke`], [`metadata`] |
//! | making foreign text fit to be shown | [`text`] |

mod answer;
pub mod authorize;
pub mod callback;
pub mod device;
pub mod identity;
pub mod jwt;
pub mod merge;
pub mod metadata;
pub mod paste;
pub mod pkce;
pub mod request;
pub mod revoke;
pub mod text;
pub mod token;

// The one verb that callers use alone; it shares its name with the module.
pub use merge::merge;
