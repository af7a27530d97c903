//! The one integration test program; its modules are named by behaviour.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and spawns and times as it likes"
)]
#![expect(dead_code, reason = "helpers of suites that are still to come")]

mod admin;
mod cli;
mod clients;
mod config;
mod http2;
mod patience;
mod retry;
mod shutdown;
mod smoke;
mod standins;
mod store_conformance;
mod streaming;
mod support;
mod uploads;
mod websocket;
