//! A WebSocket by hand: frames as bytes.

use keygate::upstream::Kind;

use super::Rig;
use super::wire::{Wire, value};

/// The lines of a handshake, with the key of RFC 6455, section 1.3.
pub(crate) const HANDSHAKE: &str =
    "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
/// The answer to it.
pub(crate) const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// A frame; `mask` as a client's must have.
pub(crate) fn frame(first: u8, payload: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
    let flag = if mask.is_some() { 0x80 } else { 0 };
    let mut frame = vec![first];
    match payload.len() {
        short @ 0..126 => frame.push(flag | short as u8),
        long => {
            frame.push(flag | 127);
            frame.extend_from_slice(&(long as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&mask.unwrap_or_default()[..if mask.is_some() { 4 } else { 0 }]);
    frame.extend(payload.iter().zip(mask.unwrap_or_default().iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// A client's text message.
pub(crate) fn text(text: &str) -> Vec<u8> {
    frame(0x81, text.as_bytes(), Some([7, 77, 177, 17]))
}

/// A socket that a client has opened.
pub(crate) struct Socket {
    pub(crate) wire: Wire,
}

impl Socket {
    /// Opens one with a request target and header lines.
    pub(crate) async fn open(rig: &Rig, target: &str, lines: &str) -> Self {
        let mut wire = Wire::plain(rig.address).await;
        wire.write(format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n{HANDSHAKE}{lines}\r\n")).await;
        let answer = wire.head().await;
        assert!(answer.starts_with("HTTP/1.1 101"), "{target}: {answer}");
        assert_eq!(value(&answer, "sec-websocket-accept"), Some(ACCEPT));
        Self { wire }
    }

    /// Opens one of a kind with the rig's key in the query.
    pub(crate) async fn with_key(rig: &Rig, kind: Kind) -> Self {
        let path = match kind {
            Kind::Audiobookshelf => "/socket.io/?EIO=4&transport=websocket",
            Kind::Emby => "/embywebsocket?deviceId=d",
            Kind::Jellyfin => "/socket?deviceId=d",
        };
        Self::open(rig, &format!("{path}&api_key={}", rig.secret()), "").await
    }

    /// Says a text.
    pub(crate) async fn say(&mut self, message: &str) {
        self.wire.write(text(message)).await;
    }

    /// Opcode and payload of the next frame; `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<(u8, Vec<u8>)> {
        let start = self.wire.take(2).await;
        let [first, second] = start.as_slice() else { return None };
        let length = match second {
            126 => usize::from(u16::from_be_bytes(self.wire.take(2).await.try_into().expect("a length"))),
            127 => u64::from_be_bytes(self.wire.take(8).await.try_into().expect("a length")) as usize,
            short => usize::from(*short),
        };
        Some((first & 0x0f, self.wire.take(length).await))
    }

    /// The next text message.
    pub(crate) async fn hear(&mut self) -> String {
        let (opcode, payload) = self.next().await.expect("a message");
        assert_eq!(opcode, 1, "{}", String::from_utf8_lossy(&payload));
        String::from_utf8(payload).expect("text")
    }

    /// The code and reason of the close frame that must come next, and then the end.
    pub(crate) async fn closed(&mut self) -> (u16, String) {
        let (opcode, payload) = self.next().await.expect("a close frame");
        assert_eq!(opcode, 8, "{}", String::from_utf8_lossy(&payload));
        assert!(self.wire.rest().await.is_empty(), "nothing after the close frame");
        (u16::from_be_bytes([payload[0], payload[1]]), String::from_utf8_lossy(&payload[2..]).into_owned())
    }
}
