//! What both worlds hold the machine to.

/// What must hold after every step of every run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Invariant {
    /// A refresh token is sent once, except in the cases (a) to (d) of the promise.
    SendOnce,
    /// Repetitions wait longer and longer.
    BackOff,
    /// The record says `sent` durably before the first byte leaves.
    RecordedFirst,
    /// Whoever is told "served" gets a token that is durable.
    Durable,
    /// ... and that serves the demand.
    Serves,
    /// No action takes away a generation or blanks a token.
    Kept,
    /// Tokens of another account reach neither the store nor what the record hands out.
    Account,
    /// A flight ends.
    Ends,
    /// When faults stop, the grant is usable again, or there is a true reason for a login.
    Live,
}
