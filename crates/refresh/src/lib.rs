//! The refresh protocol as a pure machine (design: Refresh).
//!
//! Nothing here touches a file, a lock or the network, and nothing here knows the time by itself. Two questions are
//! answered:
//!
//! * [`overlay`] and [`stand`]: which generation of a grant is the valid one, given what the owner store and the
//!   refresh record say, and what may be done with it now? Handing out, status and the machine all ask
//!   this same function, so that status cannot disagree with what happens.
//! * [`Flight`]: with the grant's lock held, what is the next step? Events in, actions out. The caller performs one
//!   action, reports one event, and may die at any point in between: the next flight goes on from the record.
//!
//! The promise that the machine keeps: a refresh token is sent once. It is sent again only if no byte of the request
//! was written, after an answer that leaves it unspent, within the server's declared replay grace, or when the
//! outcome is unknown, nothing newer is at any holder and the old access token is dead. Every send is recorded before
//! its first byte; an answer is durable before anyone sees it.

mod flight;
mod stand;
mod view;

pub use flight::{Action, Answer, Event, Failure, Flight, Holder, Rival, Setup, Snapshot, Verdict};
pub use stand::{
    BACKOFF_MAX, Death, Demand, Due, Horizon, JUST_ISSUED, Policy, RESEND_MAX, RESTORED_SPENT,
    RETRY_AFTER_MAX, Standing, alive, backoff_delay, is_ahead, renewal_due_at, stand,
};
pub use view::{View, after_login, overlay};

#[cfg(test)]
mod tests;
