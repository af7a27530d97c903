//! keygate: a gateway with its own API keys for Audiobookshelf, Emby and Jellyfin.
//!
//! It stands in front of an unmodified media server, owns the keys and the public port, and turns a keygate key into the upstream
//! session of the account that the key acts for. This page is the map of the house.
//!
//! # The way of a request
//! ```text
//! TCP ─ server::accept ─ TLS ─ hyper ─▶ Worker::serve ────────────────────────────────────────────────────────────────┐
//!  inspect ▸ carrier::read ▸ ApiKey::parse ▸ KeyIndex::find ▸ policy::admit ▸ Sessions::live                          │ any Err(Refusal)
//!  Inspected    Taken          (no hash yet)     Verified         Permit        Arc<Session>                           ▼
//!                       ▸ Outbound::new ▸ forward::send ▸ scrub ▸ Metered ▸ client                             respond::refusal
//!                           Outbound        Exchange    Source   Trail on drop ▸ access line
//!                                             └ 101 ▸ Tunnel (own task, tracked, holds the Permit; frames are looked through)
//! ```
//! One way only: a value on the right can be made only from the ones on its left. [`policy::Permit`] has private fields and one
//! constructor, cannot be cloned, and lives until the last byte of the answer; [`forward::rewrite::Outbound`] wants it. The steps
//! stand in [`gateway::pipeline`] as text that reads from top to bottom, since their order is the security argument.
//!
//! # Rooms
//! | room | what it does |
//! |---|---|
//! | [`secret`], [`clock`], [`redact`], [`socket`] | values that cannot be printed; time as an argument; the one redactor; TCP |
//! | [`target`] | path and host of a request, judged |
//! | [`carrier`] | where credentials travel; takes all of them out of a request |
//! | [`keys`] | the key's text, its stored form, its rights ([`keys::scope`], [`keys::preset`]), the index in memory |
//! | [`lifeline`] | tells what runs on a key that the key has died |
//! | [`limits`] | what a key may do no more than: from where, how often, how much; counted for all cores at once |
//! | [`scrub`] | takes upstream credentials out of answers, as text |
//! | [`policy`] | what a known key may do, by its scopes and libraries and by what the route takes; makes permits |
//! | [`upstream`] | media servers: [`upstream::dialect`] (pure), [`upstream::session`] (state machine), [`upstream::client`] (pool), [`upstream::line`] (one connection and its HTTP/1.1: whoever waits for an answer reads it), [`upstream::tls`] (whom it trusts) |
//! | [`handouts`] | media tickets and the upstreams' own capability ids, each bound to a key |
//! | [`forward`] | rewriting, sending, [`forward::scrub`] (which answer is scrubbed how), bodies, tunnels; what passes through sockets (`websocket`, `socketio`) |
//! | [`gateway`] | the pipeline, refusals, the answers that are keygate's own |
//! | [`server`] | listeners, cores, connections, TLS, stopping |
//! | [`certificates`] | the certificates that are served: files that change, keygate's own authority, ACME ([`certificates::acme`]); choice by name |
//! | [`store`] | redb, memory, sealing |
//! | [`audit`] | who did what: lines of the log, made from records, with no way in for a secret |
//! | [`usage`] | what keys are used for: counts of each core, the one place where they come together, what runs now; [`admin::metrics`] shows it to Prometheus |
//! | [`registry`] | keys and accounts as operators change them: store first, memory at once after it |
//! | [`config`] | the file, every value usable, all problems at once |
//! | [`admin`], [`cli`] | the Unix socket, the admin listener ([`admin::listener`], who comes in: [`admin::door`]), and the commands |
//! | [`page`] | the web page on the admin listener: HTML made here, forms, a secret shown once |
//! | [`doctor`] | looks at the whole installation, check by check |
//! | [`telemetry`] | logging, the access line; spans of requests for a collector, if one is named ([`telemetry::traces`]) |
//! | [`demo`] | stand-in media servers |
//! | [`app`] | the program put together |
//!
//! # Who may depend on whom
//! L0 `secret`, `clock`. L1 `target`, `keys`, `carrier`, `redact`, `lifeline`, `limits`, `policy`, `scrub`, `upstream::dialect`: pure, no tokio, hyper, redb or tracing; a
//! test holds that. L2 `config`, `store`, `socket`. L3 `upstream::{session, client, line, call}`, `audit`, `usage`, `registry`, `handouts`, `certificates`, `forward`. L4 `gateway`, `telemetry`. L5 `server`,
//! `doctor`, `admin`, `page`, `demo`, `app`, `cli`.
//!
//! Downwards is the rule. These edges still lead upwards: `forward` and `upstream::client` use `server::drain` and the client's socket of
//! `server::connection`; `forward` ends in `gateway::refusal` and writes to `gateway::trail`; `upstream::{client, line}` carry `forward::body`;
//! `gateway` counts in `server::accept`; `telemetry` and `gateway::trail` know each other, and `gateway::routing` holds who makes spans; `policy` and `config` use records and values of
//! `store` and `upstream`.
//!
//! # Invariants
//! 1. The request path takes no lock and never touches the store: keys are looked up in [`keys::index::KeyIndex`], sessions in
//!    [`upstream::session::Sessions::live`]; both are written by whoever commits. Engine.IO's sessions alone are looked up under a lock,
//!    by requests to its own endpoint; and an access line is copied under one to the thread that writes the log.
//! 2. Carriers and placements are different axes: [`carrier`] knows no upstream, a dialect knows no carrier.
//! 3. What is judged is what is forwarded: one canonical path, decided once.
//! 4. A rotated refresh token is durable before the access token that came with it is used.
//! 5. No answer goes out without [`forward::scrub`]; a session's credentials are known to it before the session is used.
//! 6. What takes rights away holds in memory before it is written; what gives rights is written first.
//! 7. An upstream connection is reused only after a complete exchange, and only for the same session.
//! 8. What opens media without a key was handed out to one, and dies with it ([`handouts`]).
//! 9. What runs on a key ends when the key dies: [`lifeline`] tells, and the request (`gateway::cut`), the answer's body ([`forward::body`]) and
//!    the connection or stream that carries it ([`server::connection`]) obey.
//! 10. Time never goes back: everything is judged by one [`clock::SteadyClock`], which remembers the latest time over restarts.
//! 11. A listener that leads to https forwards nothing (`gateway::redirect`).
//! 12. Every task is tracked: [`server::drain`] alone spawns on the cores.
//! 13. A handshake that offers `acme-tls/1` alone never reaches HTTP ([`server::tls`]).
#![forbid(unsafe_code)]

pub mod admin;
pub mod app;
pub mod audit;
pub mod carrier;
pub mod certificates;
pub mod cli;
pub mod clock;
pub mod config;
pub mod demo;
pub mod doctor;
pub mod forward;
pub mod gateway;
pub mod handouts;
pub mod keys;
pub mod lifeline;
pub mod limits;
pub mod page;
pub mod policy;
pub mod redact;
pub mod registry;
pub mod scrub;
pub mod secret;
pub mod server;
pub mod socket;
pub mod store;
pub mod target;
pub mod telemetry;
pub mod upstream;
pub mod usage;
