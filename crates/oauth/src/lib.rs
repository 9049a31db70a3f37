//! OAuth 2.0 as pure request builders and response parsers
