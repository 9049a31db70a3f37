//! Requests and answers as values: where a request goes, with which changes, and what may pass in each direction.
//!
//! Everything here reads bytes of strangers. It opens no socket, reads no file and knows no time; it does not panic,
//! its time grows with the length of what it reads, and what it keeps is bounded by named constants.
//!
//! | question | answered by |
//! |---|---|
//! | what does the path mean? | [`route`] |
//! | what does a compressed body say? | [`decode`] |
//! | which model, and what belongs to one account? | [`model`] |
//! | which session? | [`session`] |
//! | may this caller have that, and what exactly goes up? | [`plan`] |
//! | which headers and parameters pass? | [`headers`], [`query`] |
//! | what does a stream say about errors, limits and usage? | [`events`] |
//! | how is a refusal told? | [`errors`] |

pub(crate) mod cost;
pub mod decode;
pub mod errors;
pub mod events;
pub mod headers;
pub(crate) mod kept;
pub mod model;
pub mod models;
pub mod plan;
pub mod query;
pub mod route;
pub mod session;
