//! What the process asks of the operating system before it holds secrets and sockets.

use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};

/// Descriptors kept back for the store, logins, the admin socket and the listeners.
const RESERVED: u64 = 128;

/// Keeps memory, which holds tokens and the master key, out of core dumps and away from other processes of the same user.
pub(crate) fn harden() {
    // A system that cannot do that is no reason not to run.
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
}

/// Every stream needs two descriptors: the soft limit (often 1024) is raised to what the system allows.
pub(crate) fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

/// How many client connections the descriptors are enough for, with one upstream connection each.
pub(crate) fn affordable_connections() -> usize {
    let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(1 << 20);
    usize::try_from(descriptors.saturating_sub(RESERVED) / 2).unwrap_or(usize::MAX).max(16)
}
