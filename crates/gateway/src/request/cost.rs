//! Which calls cost nothing. That one of them is served shows that the login is taken; whether the account can pay, or
//! has room in a limit, it does not show.

use http::Method;

/// What a path ends with where it asks for no answer of a model.
const FREE_VERBS: [&str; 7] = [
    "count_tokens",
    "countTokens",
    "input_tokens",
    "tokenize",
    "detokenize",
    "moderations",
    "cancel",
];

/// Collections in which things are made without a model. What is asked of a batch is billed when it is done.
const FREE_COLLECTIONS: [&str; 8] = [
    "files",
    "uploads",
    "batches",
    "containers",
    "vector_stores",
    "assistants",
    "conversations",
    "skills",
];

/// Does a request like this cost nothing? Where nobody knows, it is taken for one that does.
pub(crate) fn is_free(method: &Method, path_and_query: &str) -> bool {
    if *method != Method::POST {
        return true;
    }
    let path = path_and_query.split('?').next().unwrap_or_default();
    let verb = path.rsplit(['/', ':']).next();
    let is_verb = verb.is_some_and(|verb| FREE_VERBS.contains(&verb));
    is_verb || path.split('/').any(|name| FREE_COLLECTIONS.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_costs_nothing() {
        for (method, path, free) in [
            (Method::GET, "/v1/models", true),
            (Method::GET, "/v1/responses/resp_1", true),
            (Method::POST, "/v1/messages", false),
            (Method::POST, "/v1/messages?beta=true&x=/files", false),
            (Method::POST, "/v1/messages/count_tokens", true),
            (Method::POST, "/v1/messages/count_tokens?beta=true", true),
            (Method::POST, "/v1/messages/batches", true),
            (Method::POST, "/v1/responses", false),
            (Method::POST, "/v1/responses/resp_1/cancel", true),
            (Method::POST, "/v1/responses/input_tokens", true),
            (Method::POST, "/v1beta/models/x:generateContent", false),
            (Method::POST, "/v1beta/models/x:countTokens", true),
            (Method::POST, "/v1/threads/thread_1/runs", false),
            (Method::POST, "/v1/files", true),
            (Method::DELETE, "/v1/files/file_1", true),
            (Method::POST, "/what/nobody/knows", false),
        ] {
            assert_eq!(is_free(&method, path), free, "{method} {path}");
        }
    }
}
