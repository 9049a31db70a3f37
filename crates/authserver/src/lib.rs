//! A strict OAuth authorization server on loopback, for the demo, the kit and the tests
