//! Every bound of the gateway: what it is and why it is that much.
//!
//! A request that meets a bound is answered with the bound's own status (408, 413, 431, 503) and leaves nothing
//! behind. Tests shrink [`Bounds`]; nothing else should need to.

use std::time::Duration;

const MIB: usize = 1024 * 1024;

/// What a gateway allows itself and its clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Client connections at a time, idle ones among them. With [`Bounds::requests`] and [`Bounds::pool_idle_max`] it
    /// stays below 1,024 descriptors, the usual soft limit of a process.
    pub connections: usize,
    /// Requests that are being served at a time; each may hold one upstream connection.
    pub requests: usize,
    /// Requests of one profile at a time, so that one account that answers slowly leaves room for the others.
    pub requests_per_profile: usize,
    /// Leases that are being waited for at `/tokensink/v1/lease` at a time. Each takes a thread, of which the event loop
    /// has 512; the rest is for requests and for questions that are answered at once.
    pub leases: usize,
    /// How long a request waits for room before it is refused with 503: less than the 60 s after which common clients
    /// give up.
    pub queue_time: Duration,
    /// How long a request waits for a first lease: for a refresh, or for the end of a bench. Beyond it the client is
    /// told when to come back.
    pub lease_wait: Duration,
    /// The same for another account after one has failed: an answer to pass on is there already.
    pub failover_wait: Duration,
    /// Most header fields of a request; real clients send about thirty.
    pub header_fields: usize,
    /// Largest head of a request in bytes: request line and header. OAuth tokens and beta lists take a few KiB.
    pub head_bytes: usize,
    /// How long the head of a request may take from its first byte to its last (slow loris).
    pub head_time: Duration,
    /// How long a client may keep a connection without a request. Longer than what clients keep theirs for (5 to 90 s),
    /// so that it is the client that closes, which cannot lose a request.
    pub keep_alive: Duration,
    /// How long a client that owes a part of its request body may send nothing.
    pub upload_idle: Duration,
    /// How long a request body that is held may take, whatever its length; for what has come there is time besides
    /// ([`Bounds::upload_rate`]).
    pub upload_grace: Duration,
    /// How many bytes of a body that is held must come per second after that, on average: else a client that sends a byte
    /// a minute would keep memory and room for ever. Less than any line has over which a client can be worked with.
    pub upload_rate: usize,
    /// How long a client may take nothing of an answer that waits for it.
    pub download_idle: Duration,
    /// How long name lookup, TCP, proxy and TLS may take together.
    pub connect: Duration,
    /// How long the upstream may take to begin its answer once it takes no more of the request. Models that think do
    /// take minutes.
    pub first_byte: Duration,
    /// How often the other processes are told that a request which tests an account still waits for its answer.
    pub test_pulse: Duration,
    /// How long an answer that has begun may be silent; streams of the known providers send a ping within a minute.
    pub answer_idle: Duration,
    /// How long an unused upstream connection is kept: less than the 60 s after which many servers close it, so that a
    /// request seldom meets a connection that is being closed.
    pub pool_idle: Duration,
    /// Most unused upstream connections kept.
    pub pool_idle_max: usize,
    /// Largest request body that is held to be sent again; a larger one streams and has one attempt. Anthropic takes
    /// 32 MB.
    pub replay_body: usize,
    /// Request bodies held at a time, in bytes altogether. A request whose body must be read waits for room
    /// ([`Bounds::queue_time`]); others stream without.
    pub replay_total: usize,
    /// What decompressing request bodies may take at a time, in bytes altogether. Each counts with the most that it could
    /// take ([`crate::request::decode::room`]): four of the largest, a hundred of usual ones. It takes milliseconds, so a
    /// request that waits for room does not wait long.
    pub decode_total: usize,
    /// How much of an error answer is read to classify it. Known ones have a few hundred bytes.
    pub error_body: usize,
    /// How long that may take.
    pub error_time: Duration,
    /// How often a gateway looks whether the one that serves the Unix socket is gone: a local program that finds nobody
    /// tries again for some seconds.
    pub socket_look: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            connections: 600,
            requests: 300,
            requests_per_profile: 200,
            leases: 200,
            queue_time: Duration::from_secs(30),
            lease_wait: Duration::from_secs(30),
            failover_wait: Duration::from_secs(10),
            header_fields: 100,
            head_bytes: 64 * 1024,
            head_time: Duration::from_secs(15),
            keep_alive: Duration::from_secs(300),
            upload_idle: Duration::from_secs(60),
            upload_grace: Duration::from_secs(60),
            upload_rate: 8 * 1024,
            download_idle: Duration::from_secs(300),
            connect: tokensink_host::CONNECT_TIME,
            first_byte: Duration::from_secs(600),
            test_pulse: tokensink_sink::PROBE_PULSE,
            answer_idle: Duration::from_secs(300),
            pool_idle: Duration::from_secs(50),
            pool_idle_max: 64,
            replay_body: 32 * MIB,
            replay_total: 256 * MIB,
            decode_total: 256 * MIB,
            error_body: 256 * 1024,
            error_time: Duration::from_secs(5),
            socket_look: Duration::from_secs(2),
        }
    }
}

/// How long a connection that we end is still read from, so that the answer is not lost to a reset (RFC 9112
/// section 9.6).
pub(crate) const LINGER: Duration = Duration::from_secs(1);
/// How much of it is read then.
pub(crate) const LINGER_BYTES: usize = MIB;
/// Connections beyond the bound that are told so with care at a time: each takes a descriptor for up to [`LINGER`]. What
/// comes beyond them is told as far as that goes at once.
pub(crate) const FAREWELLS: usize = 16;
/// Frames that are ready are joined into one write up to this size; above it a copy costs more than a write.
pub(crate) const GATHER_BYTES: usize = 16 * 1024;
/// How long accepting pauses when the system has no descriptor left.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
