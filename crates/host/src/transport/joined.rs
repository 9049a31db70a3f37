//! Several parts in one write.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::AsyncWrite;
use zeroize::optimization_barrier;

/// Up to this length, in bytes, copying parts together costs less than to let the kernel look at each of them; a head and
/// a small body have it.
const JOINED_MAX: usize = 2048;

/// Writes `parts` to a socket, as [`AsyncWrite::poll_write_vectored`] does: small ones in one piece.
///
/// # Errors
/// Those of the socket.
pub fn poll_write_parts<W: AsyncWrite>(
    to: Pin<&mut W>,
    context: &mut Context<'_>,
    parts: &[IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    let all: usize = parts.iter().map(|part| part.len()).sum();
    if all > JOINED_MAX {
        return to.poll_write_vectored(context, parts);
    }
    let mut joined = [0; JOINED_MAX];
    let mut room = &mut joined[..];
    for part in parts {
        let (place, rest) = room.split_at_mut(part.len());
        place.copy_from_slice(part);
        room = rest;
    }
    let written = to.poll_write(context, &joined[..all]);
    // A credential may have been in it.
    joined[..all].fill(0);
    optimization_barrier(&joined);
    written
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    /// Notes how it was written to.
    #[derive(Default)]
    struct Noted(Vec<(usize, Vec<u8>)>);

    impl AsyncWrite for Noted {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.0.push((1, bytes.to_vec()));
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            parts: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let bytes: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
            self.0.push((parts.len(), bytes.clone()));
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn small_parts_leave_in_one_piece_and_large_ones_uncopied() {
        let large = vec![7; JOINED_MAX];
        let just = vec![7; JOINED_MAX - 4];
        for (parts, pieces) in [
            (vec![&b"head"[..], b"", b"body"], 1),
            (vec![b"head", &just], 1),
            (vec![b"head", &large], 2),
            (vec![&large, b"!", b"?"], 3),
            (vec![], 1),
        ] {
            let mut noted = Noted::default();
            let slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
            let mut context = Context::from_waker(Waker::noop());
            let written = poll_write_parts(Pin::new(&mut noted), &mut context, &slices);
            let all = parts.concat();
            assert!(matches!(written, Poll::Ready(Ok(length)) if length == all.len()));
            assert_eq!(noted.0, [(pieces, all)]);
        }
    }
}
