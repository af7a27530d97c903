//! The one integration test program; its modules are named by behaviour.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and spawns and waits as it likes"
)]

mod access_log;
mod acme;
mod activation;
mod admin;
mod admin_listener;
mod architecture;
mod audit;
mod carriers;
mod certificates;
mod cli;
mod clients;
mod config;
mod crash;
mod daemon;
mod deny_lists;
mod doctor;
mod expiry;
mod first_steps;
mod forwarding;
mod guessing;
mod handouts;
mod http2;
mod leaks;
mod lifecycle;
mod limits;
mod login;
mod manual;
mod metrics;
mod minted;
mod mistakes;
mod native_logins;
mod outstanding;
mod page;
mod patience;
mod proxied;
mod redirect;
mod refusals;
mod retry;
mod revocation;
mod rights;
mod routing;
mod scrubbing;
mod sessions;
mod shutdown;
mod smoke;
mod socketio;
mod standins;
mod store_conformance;
mod streaming;
mod support;
mod sweeping;
mod task_pages;
mod traces;
mod upkeep;
mod uploads;
mod upstream_tls;
mod usage;
mod watchdog;
mod websocket;
