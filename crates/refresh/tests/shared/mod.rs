//! What the small world of one process and the model of several have in common.

pub(crate) mod invariant;
pub(crate) mod machine;
pub(crate) mod server;
pub(crate) mod tokens;
pub(crate) mod variants;
