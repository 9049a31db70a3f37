//! Which profile serves a request: order and eligibility, as pure functions
