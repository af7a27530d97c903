//! The PROXY protocol, versions 1 and 2: a load balancer that forwards TCP says in front of the first byte for whom
//! (<https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>, sections 2.1 and 2.2).
//!
//! Read with own code: the crates that parse it want the whole header in one buffer, and what follows the header belongs to TLS, so
//! that no byte too many may be taken from the socket.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::{AsyncRead, AsyncReadExt};

/// Both versions are told apart by these many bytes, and no header is shorter.
const START: usize = 12;
const V2: [u8; START] = *b"\r\n\r\n\0\r\nQUIT\n";
/// The longest header of version 1, with its end.
const MAX_V1: usize = 107;
/// The longest of version 2 that is read. Only what stands before the addresses and they themselves count; the rest is skipped.
const MAX_V2: usize = 4096;

/// Why a connection from a proxy is of no use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProxyError {
    /// The connection ended or broke.
    #[error("the connection ended within the PROXY header: {0}")]
    Io(#[from] io::Error),
    /// Something else came.
    #[error("the connection does not begin with a PROXY header")]
    NoHeader,
    /// A header that is none.
    #[error("the PROXY header is malformed")]
    Malformed,
}

/// Takes the header from the front of a stream, and not a byte more: the client's address, or `None` when the proxy speaks for itself
/// (its health checks) or does not know.
pub(crate) async fn client_address(stream: &mut (impl AsyncRead + Unpin)) -> Result<Option<SocketAddr>, ProxyError> {
    let mut start = [0; START];
    stream.read_exact(&mut start[..6]).await?;
    if &start[..6] != b"PROXY " && start[..6] != V2[..6] {
        return Err(ProxyError::NoHeader);
    }
    stream.read_exact(&mut start[6..]).await?;
    if start == V2 {
        return version_2(stream).await;
    }
    if !start.starts_with(b"PROXY ") {
        return Err(ProxyError::NoHeader);
    }
    let mut line = start.to_vec();
    while !line.ends_with(b"\r\n") {
        if line.len() == MAX_V1 {
            return Err(ProxyError::Malformed);
        }
        line.push(stream.read_u8().await?);
    }
    version_1(&line[..line.len() - 2])
}

/// `PROXY TCP4 192.0.2.1 198.51.100.1 56324 443`, without its end.
fn version_1(line: &[u8]) -> Result<Option<SocketAddr>, ProxyError> {
    let text = std::str::from_utf8(line).map_err(|_| ProxyError::Malformed)?;
    let mut words = text.strip_prefix("PROXY ").ok_or(ProxyError::Malformed)?.split(' ');
    let family = words.next();
    if family == Some("UNKNOWN") {
        // Whatever else the line says must be ignored.
        return Ok(None);
    }
    let (Some(source), Some(destination), Some(port), Some(to), None) =
        (words.next(), words.next(), words.next(), words.next(), words.next())
    else {
        return Err(ProxyError::Malformed);
    };
    let address = |text: &str| -> Option<IpAddr> {
        match family {
            Some("TCP4") => text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
            Some("TCP6") => text.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
            _ => None,
        }
    };
    let port_of = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u16>().ok()).flatten();
    let (Some(source), Some(_), Some(port), Some(_)) = (address(source), address(destination), port_of(port), port_of(to)) else {
        return Err(ProxyError::Malformed);
    };
    Ok(Some(SocketAddr::new(source, port)))
}

/// What follows the signature.
async fn version_2(stream: &mut (impl AsyncRead + Unpin)) -> Result<Option<SocketAddr>, ProxyError> {
    let mut fixed = [0; 4];
    stream.read_exact(&mut fixed).await?;
    let [version_and_command, family, high, low] = fixed;
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > MAX_V2 {
        return Err(ProxyError::Malformed);
    }
    let mut rest = vec![0; length];
    stream.read_exact(&mut rest).await?;
    match (version_and_command, family) {
        // LOCAL: the proxy itself; what it writes is to be ignored.
        (0x20, _) => Ok(None),
        // PROXY, of a family that is not told.
        (0x21, 0x00) => Ok(None),
        (0x21, 0x11) => v4(&rest).map(Some),
        (0x21, 0x21) => v6(&rest).map(Some),
        _ => Err(ProxyError::Malformed),
    }
}

fn v4(rest: &[u8]) -> Result<SocketAddr, ProxyError> {
    let (source, rest) = rest.split_first_chunk::<4>().ok_or(ProxyError::Malformed)?;
    let (_, rest) = rest.split_first_chunk::<4>().ok_or(ProxyError::Malformed)?;
    Ok(SocketAddr::new(IpAddr::from(*source), port(rest)?))
}

fn v6(rest: &[u8]) -> Result<SocketAddr, ProxyError> {
    let (source, rest) = rest.split_first_chunk::<16>().ok_or(ProxyError::Malformed)?;
    let (_, rest) = rest.split_first_chunk::<16>().ok_or(ProxyError::Malformed)?;
    Ok(SocketAddr::new(IpAddr::from(*source), port(rest)?))
}

/// The source's port; the destination's must be there too.
fn port(rest: &[u8]) -> Result<u16, ProxyError> {
    let ports = rest.first_chunk::<4>().ok_or(ProxyError::Malformed)?;
    Ok(u16::from_be_bytes([ports[0], ports[1]]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a header says, and what is left of the stream.
    fn read(mut bytes: &[u8]) -> (Result<Option<SocketAddr>, ProxyError>, Vec<u8>) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let said = runtime.block_on(client_address(&mut bytes));
        (said, bytes.to_vec())
    }

    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).expect("short");
        [&V2[..], &[command, family], &length.to_be_bytes(), rest].concat()
    }

    #[test]
    fn both_versions_tell_the_source_and_leave_what_follows() {
        let four = [192, 0, 2, 1, 198, 51, 100, 1, 0xdc, 0x04, 0x01, 0xbb, 0x04, 0, 1, 9];
        let six = [&[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7][..], &[0; 16], &[0, 80, 1, 0xbb]].concat();
        for (header, wanted) in [
            (b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n".to_vec(), "192.0.2.1:56324"),
            (b"PROXY TCP6 2001:db8::7 ::1 80 443\r\n".to_vec(), "[2001:db8::7]:80"),
            (v2(0x21, 0x11, &four), "192.0.2.1:56324"),
            (v2(0x21, 0x21, &six), "[2001:db8::7]:80"),
        ] {
            let (said, left) = read(&[&header[..], b"\x16\x03\x01"].concat());
            assert_eq!(said.expect("read"), Some(wanted.parse().expect("address")));
            assert_eq!(left, b"\x16\x03\x01");
        }
    }

    #[test]
    fn a_proxy_may_speak_for_itself() {
        for header in [
            b"PROXY UNKNOWN\r\n".to_vec(),
            b"PROXY UNKNOWN ffff:f::f ::1 1 2\r\n".to_vec(),
            v2(0x20, 0, b""),
            v2(0x20, 0x11, b"x"),
            v2(0x21, 0, b""),
        ] {
            let (said, left) = read(&[&header[..], b"GET"].concat());
            assert!(matches!(said, Ok(None)), "{header:?}");
            assert_eq!(left, b"GET");
        }
    }

    #[test]
    fn whatever_is_not_quite_a_header_is_refused() {
        let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(100));
        for wrong in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"PROXY",
            b"PROXY TCP4 192.0.2.1 198.51.100.1 56324\r\n",
            b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 443 1\r\n",
            b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\n\r\n",
            b"PROXY TCP4 192.0.2.1  198.51.100.1 56324 443\r\n",
            b"PROXY TCP4 192.0.2.1 198.51.100.1 +5632 443\r\n",
            b"PROXY TCP4 192.0.2.1 198.51.100.1 65536 443\r\n",
            b"PROXY TCP4 2001:db8::7 ::1 80 443\r\n",
            b"PROXY TCP6 192.0.2.1 198.51.100.1 80 443\r\n",
            b"PROXY UDP4 192.0.2.1 198.51.100.1 80 443\r\n",
            b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 443",
            long.as_bytes(),
            &v2(0x21, 0x11, &[0; 11]),
            &v2(0x21, 0x21, &[0; 35]),
            &v2(0x21, 0x12, &[0; 12]),
            &v2(0x21, 0x31, &[0; 216]),
            &v2(0x22, 0x11, &[0; 12]),
            &v2(0x11, 0x11, &[0; 12]),
            &v2(0x21, 0x11, &[0; 5000]),
            &V2,
        ] {
            assert!(read(wrong).0.is_err(), "{:?}", String::from_utf8_lossy(wrong));
        }
    }

    proptest! {
        #[test]
        fn any_address_comes_back_and_no_byte_is_lost(ip: u32, port: u16, after: Vec<u8>) {
            let source = SocketAddr::new(IpAddr::from(ip.to_be_bytes()), port);
            let header = format!("PROXY TCP4 {} 198.51.100.1 {port} 443\r\n", source.ip());
            let (said, left) = read(&[header.as_bytes(), &after].concat());
            prop_assert_eq!(said.expect("read"), Some(source));
            prop_assert_eq!(&left, &after);
            let rest = [&ip.to_be_bytes()[..], &[1, 2, 3, 4], &port.to_be_bytes(), &[1, 0xbb]].concat();
            let (said, left) = read(&[&v2(0x21, 0x11, &rest), &after[..]].concat());
            prop_assert_eq!(said.expect("read"), Some(source));
            prop_assert_eq!(left, after);
        }

        #[test]
        fn no_bytes_make_the_reader_panic(start in "(PROXY (TCP[46])? ?)?", mut bytes: Vec<u8>, signed: bool) {
            let mut all = if signed { V2.to_vec() } else { start.into_bytes() };
            all.append(&mut bytes);
            let _ = read(&all);
        }
    }
}
