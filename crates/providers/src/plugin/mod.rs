//! Provider plugins: what other people's files say about providers, as values.
//!
//! [`manifest`] and [`protocol`] are for plugins with a program of their own, [`openclaw`] reads what is data in a plugin
//! manifest of OpenClaw. What it promises: nothing of a manifest is taken
//! over that was not checked, and everything that was left out is named. What it does not know: files and processes.

pub mod manifest;
pub mod openclaw;
pub mod protocol;
