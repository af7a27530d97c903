//! Who holds a port or a file: for the sentence that an operator reads when keygate cannot have it.

use std::fmt;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// What `/proc/net/tcp` calls a socket that listens.
const LISTENING: &str = "0A";

/// `nginx (pid 812)`, or `a program of uid 33` where its descriptors may not be looked at; `None`: nothing is known.
pub(super) fn holder(address: SocketAddr) -> Option<String> {
    let (inode, uid) = ["tcp", "tcp6"].iter().find_map(|table| {
        let text = fs::read_to_string(format!("/proc/self/net/{table}")).ok()?;
        let found = text.lines().skip(1).find_map(|line| listening_on(line, address.port()));
        found.map(|(inode, uid)| (inode.to_owned(), uid.to_owned()))
    })?;
    let link = format!("socket:[{inode}]");
    let found = process(|descriptor| fs::read_link(descriptor).is_ok_and(|target| target.as_os_str() == link.as_str()));
    Some(found.map_or_else(|| format!("a program of uid {uid}"), |program| program.to_string()))
}

/// A running program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Program {
    /// What the system calls it, at most 15 bytes.
    pub(crate) name: String,
    /// Its process.
    pub(crate) pid: u32,
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (pid {})", self.name, self.pid)
    }
}

/// Another program than this one that has a file open, as far as this one may look.
pub(crate) fn of_file(path: &Path) -> Option<Program> {
    let wanted = fs::metadata(path).ok()?;
    // By its inode: within a container, the path is another one.
    let is_it = |found: &fs::Metadata| (found.dev(), found.ino()) == (wanted.dev(), wanted.ino());
    process(|descriptor| fs::metadata(descriptor).is_ok_and(|found| is_it(&found))).filter(|program| program.pid != std::process::id())
}

/// Inode and owner of the socket of a line, if it listens on this port. Its address is not compared: of two that share a port, either
/// one explains why it is taken.
fn listening_on(line: &str, port: u16) -> Option<(&str, &str)> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let (local, state, uid, inode) = (fields.get(1)?, fields.get(3)?, fields.get(7)?, fields.get(9)?);
    let (_, found) = local.split_once(':')?;
    (*state == LISTENING && u16::from_str_radix(found, 16) == Ok(port)).then_some((*inode, *uid))
}

/// The process that has such a descriptor, this one last.
fn process(is_it: impl Fn(&Path) -> bool) -> Option<Program> {
    // Others than processes are there too, "self" among them.
    let mut pids: Vec<u32> = fs::read_dir("/proc").ok()?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    pids.sort_by_key(|pid| *pid == std::process::id());
    let path = |pid: u32| Path::new("/proc").join(pid.to_string());
    let pid = pids.into_iter().find(|pid| has(&path(*pid), &is_it))?;
    let name = fs::read_to_string(path(pid).join("comm")).ok()?;
    Some(Program { name: name.trim_end().to_owned(), pid })
}

fn has(process: &Path, is_it: impl Fn(&Path) -> bool) -> bool {
    let descriptors = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
    descriptors.map(|entry| entry.path()).any(|path| is_it(&path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_of_a_port_is_named_with_its_pid() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
        let said = holder(socket.local_addr().expect("address")).expect("known");
        assert!(said.ends_with(&format!("(pid {})", std::process::id())), "{said}");
        assert_eq!(holder("127.0.0.1:1".parse().expect("address")), None);
    }

    #[test]
    fn a_line_of_the_table_is_a_port_an_owner_and_an_inode() {
        let line = "   3: 0100007F:01BB 00000000:0000 0A 00000000:00000000 00:00000000 00000000    33        0 81234 1 0 100 0 0 10 0";
        assert_eq!(listening_on(line, 443), Some(("81234", "33")));
        assert_eq!(listening_on(line, 80), None);
        assert_eq!(listening_on(&line.replace(" 0A ", " 01 "), 443), None);
        assert_eq!(listening_on("x", 443), None);
    }
}
