//! Credentials, agent state and refresh records on disk; legacy import; lossless edits of openclaw.json
