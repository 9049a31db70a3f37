#![no_main]
//! See the property of this name in crates/properties.

libfuzzer_sys::fuzz_target!(|data: &[u8]| tokensink_properties::run("gateway_request", data));
