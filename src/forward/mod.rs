//! From an admitted request to the upstream and back: rewriting, sending, bodies, tunnels.

pub mod body;
pub mod forwarded;
pub mod hop;
pub mod pace;
pub mod rewrite;
pub mod scrub;
pub mod send;
pub mod socketio;
pub mod tunnel;
pub mod upgrade;
pub mod websocket;
