//! The logins of other programs on this host, as owner stores under their own locks (design: Logins of other CLIs).

pub mod openclaw_db;
