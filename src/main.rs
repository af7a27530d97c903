//! The program: everything is in the library.

use std::process::ExitCode;

/// Buffers of 8 KiB come and go with each request, for which libc searches its heap each time; and it keeps 2.7 KB more for each idle
/// HTTPS connection, 4 KB for each WebSocket.
#[cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    keygate::cli::main()
}
