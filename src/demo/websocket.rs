//! The server's side of a WebSocket (RFC 6455), as much of it as the stand-ins need: whole text messages, ping, close.

use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, UPGRADE};
use http::{Response, StatusCode};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use sha1::{Digest as _, Sha1};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::sync::mpsc;

use super::answer;
use super::body::Body;
use super::call::Call;

/// Longest message taken, as engine.io's `maxPayload`.
const MESSAGE_LIMIT: usize = 1_000_000;

/// The 101 for a request that asks for a WebSocket (RFC 6455, section 4.2.2).
pub(super) fn accept(call: &Call) -> Response<Body> {
    let mut hash = Sha1::new();
    hash.update(call.header("sec-websocket-key").unwrap_or_default());
    hash.update("258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let mut response = answer::empty(StatusCode::SWITCHING_PROTOCOLS);
    answer::set(&mut response, UPGRADE, "websocket");
    answer::set(&mut response, CONNECTION, "Upgrade");
    answer::set(&mut response, SEC_WEBSOCKET_ACCEPT, &STANDARD.encode(hash.finalize()));
    response
}

/// What is sent.
#[derive(Debug)]
pub(super) enum Out {
    /// A text message.
    Text(String),
    /// A pong (10) or a close (8), after which nothing follows.
    Control(u8, Vec<u8>),
}

/// The way to send on a socket.
pub(super) type Outbox = mpsc::UnboundedSender<Out>;

/// Serves a socket until one side closes it: each message goes to `on_message`, everything in `queue` is sent in order.
///
/// # Errors
/// When the connection ends or the client breaks the protocol.
pub(super) async fn serve(
    upgraded: Upgraded,
    outbox: Outbox,
    queue: mpsc::UnboundedReceiver<Out>,
    on_message: impl FnMut(String),
) -> io::Result<()> {
    let (reader, writer) = tokio::io::split(TokioIo::new(upgraded));
    tokio::select! {
        read = read_all(Reader { reader, outbox }, on_message) => read,
        written = write_all(writer, queue) => written,
    }
}

async fn read_all(mut reader: Reader, mut on_message: impl FnMut(String)) -> io::Result<()> {
    let mut message = Vec::new();
    loop {
        let (is_last, opcode, payload) = reader.frame().await?;
        match opcode {
            0..=2 => {
                message.extend_from_slice(&payload);
                if message.len() > MESSAGE_LIMIT {
                    return Err(io::Error::other("the message is too long"));
                }
                if is_last {
                    on_message(String::from_utf8_lossy(&std::mem::take(&mut message)).into_owned());
                }
            }
            8 => {
                reader.send(Out::Control(8, payload));
                // The writer ends the socket once the answer is out.
                std::future::pending::<()>().await;
            }
            9 => reader.send(Out::Control(10, payload)),
            _ => {}
        }
    }
}

struct Reader {
    reader: ReadHalf<TokioIo<Upgraded>>,
    outbox: Outbox,
}

impl Reader {
    fn send(&self, out: Out) {
        // The writer may have ended; the socket ends with it.
        let _ = self.outbox.send(out);
    }

    async fn frame(&mut self) -> io::Result<(bool, u8, Vec<u8>)> {
        let [first, second] = self.exactly().await?;
        if second & 0x80 == 0 {
            return Err(io::Error::other("a client's frame must be masked (RFC 6455, section 5.1)"));
        }
        let length = match second & 0x7f {
            126 => u64::from(u16::from_be_bytes(self.exactly().await?)),
            127 => u64::from_be_bytes(self.exactly().await?),
            short => u64::from(short),
        };
        let length = usize::try_from(length).ok().filter(|length| *length <= MESSAGE_LIMIT);
        let mut payload = vec![0; length.ok_or_else(|| io::Error::other("the frame is too long"))?];
        let mask: [u8; 4] = self.exactly().await?;
        self.reader.read_exact(&mut payload).await?;
        payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
        Ok((first & 0x80 != 0, first & 0x0f, payload))
    }

    async fn exactly<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.reader.read_exact(&mut bytes).await?;
        Ok(bytes)
    }
}

async fn write_all(mut writer: WriteHalf<TokioIo<Upgraded>>, mut queue: mpsc::UnboundedReceiver<Out>) -> io::Result<()> {
    while let Some(out) = queue.recv().await {
        let (opcode, payload) = match out {
            Out::Text(text) => (1, text.into_bytes()),
            Out::Control(opcode, payload) => (opcode, payload),
        };
        writer.write_all(&frame(opcode, &payload)).await?;
        writer.flush().await?;
        if opcode == 8 {
            break;
        }
    }
    writer.shutdown().await
}

/// One unmasked, final frame.
fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80 | opcode];
    match payload.len() {
        short @ 0..=125 => frame.push(u8::try_from(short).unwrap_or(0)),
        long => match u16::try_from(long) {
            Ok(long) => {
                frame.push(126);
                frame.extend_from_slice(&long.to_be_bytes());
            }
            Err(_) => {
                frame.push(127);
                frame.extend_from_slice(&(long as u64).to_be_bytes());
            }
        },
    }
    frame.extend_from_slice(payload);
    frame
}
