//! An answer that is read while it comes: the port for event streams.
//!
//! Reading goes in slices: each call waits for a while that the caller names and then says that nothing came. So the
//! caller keeps the deadlines (head, idle) by its own clock and can look between two slices whether it is to stop.
//! Dropping the stream ends the connection.

use std::fmt::Debug;
use std::time::Duration;

use http::Response;
use tokensink_types::Body;

use crate::ExchangeError;

/// What came of an answer's body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Arrived {
    /// These bytes, at least one.
    Bytes(Body),
    /// Its end: it came whole, as far as its framing says (a body that ends with the connection may have been cut).
    End,
    /// Nothing within the time.
    Nothing,
}

/// One request that is under way. The request leaves with the first call of [`AnswerStream::head`].
pub trait AnswerStream: Debug + Send {
    /// Waits at most `time` for the answer's head, of whatever status; `None` while it has not come.
    ///
    /// # Errors
    /// [`ExchangeError`], which says whether the request can have arrived. After an error there is nothing more.
    fn head(&mut self, time: Duration) -> Result<Option<Response<()>>, ExchangeError>;
    /// Waits at most `time` for more of the body. The head has come.
    ///
    /// # Errors
    /// `Ambiguous` when the answer was cut. After an error there is nothing more.
    fn more(&mut self, time: Duration) -> Result<Arrived, ExchangeError>;
}
