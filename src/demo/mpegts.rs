//! Segments of an MPEG transport stream (ISO/IEC 13818-1) that players really play: one audio track of silence in MPEG-1 Layer II.
//!
//! A frame of silence is a header and zeros (no sub-band has any bits allocated), so nothing has to be encoded.

use bytes::Bytes;

/// Samples of a frame over samples of a second: 24 ms.
const FRAME_MILLIS: u64 = 24;
/// 64 kbit/s at 48 kHz: `144 * 64000 / 48000`.
const FRAME_BYTES: usize = 192;
/// Layer II without a checksum, 64 kbit/s, 48 kHz, mono.
const FRAME_HEADER: [u8; 4] = [0xff, 0xfd, 0x44, 0xc0];
/// Frames in one packet of the elementary stream.
const FRAMES_PER_PES: u64 = 10;
/// Ticks of the 90 kHz clock in a frame.
const FRAME_TICKS: u64 = FRAME_MILLIS * 90;

const PACKET_BYTES: usize = 188;
const PAT_PID: u16 = 0;
const PMT_PID: u16 = 0x1000;
const AUDIO_PID: u16 = 0x0100;

/// Segment `number` of a stream whose segments last `seconds` each.
pub(super) fn segment(number: u64, seconds: u64) -> Bytes {
    let per_segment = seconds * 1000 / FRAME_MILLIS;
    let mut stream = Stream::default();
    stream.table(PAT_PID, &[0, 1, 0xf0, 0], 0);
    // The clock is in the audio's own packets; stream type 3 is MPEG-1 audio.
    let program = [0xe1, 0x00, 0xf0, 0x00, 0x03, 0xe1, 0x00, 0xf0, 0x00];
    stream.table(PMT_PID, &program, 2);
    let first = number * per_segment;
    let mut frame = first;
    while frame < first + per_segment {
        let frames = FRAMES_PER_PES.min(first + per_segment - frame);
        stream.audio(frame * FRAME_TICKS, frames);
        frame += frames;
    }
    Bytes::from(stream.bytes)
}

/// Packets, one after the other.
#[derive(Default)]
struct Stream {
    bytes: Vec<u8>,
    audio_counter: u8,
}

impl Stream {
    /// A program table in a packet of its own.
    fn table(&mut self, pid: u16, content: &[u8], table_id: u8) {
        // Header of a section: its length counts from after itself to the end of the checksum.
        let length = u8::try_from(5 + content.len() + 4).unwrap_or(u8::MAX);
        let mut section = vec![table_id, 0xb0, length, 0x00, 0x01, 0xc1, 0x00, 0x00];
        section.extend_from_slice(content);
        let checksum = crc(&section);
        section.extend_from_slice(&checksum.to_be_bytes());
        self.bytes.extend_from_slice(&[0x47, 0x40 | high(pid), low(pid), 0x10, 0x00]);
        self.bytes.extend_from_slice(&section);
        self.bytes.resize(self.bytes.len().next_multiple_of(PACKET_BYTES), 0xff);
    }

    /// Some frames as one packet of the elementary stream, spread over packets of the transport stream.
    fn audio(&mut self, ticks: u64, frames: u64) {
        let mut pes = elementary(ticks, frames);
        let clock = clock_field(ticks);
        let mut is_first = true;
        while !pes.is_empty() {
            let field: &[u8] = if is_first { &clock } else { &[] };
            let room = PACKET_BYTES - 4 - field.len();
            let taken = pes.len().min(room);
            let start = if is_first { 0x40 } else { 0 };
            let has_field = !field.is_empty() || taken < room;
            let control = if has_field { 0x30 } else { 0x10 } | self.audio_counter;
            self.bytes.extend_from_slice(&[0x47, start | high(AUDIO_PID), low(AUDIO_PID), control]);
            self.field(field, room - taken);
            self.bytes.extend(pes.drain(..taken));
            self.audio_counter = (self.audio_counter + 1) & 15;
            is_first = false;
        }
    }

    /// An adaptation field with `stuffing` bytes more.
    fn field(&mut self, field: &[u8], stuffing: usize) {
        match (field.split_first(), stuffing) {
            (None, 0) => {}
            // A field of one byte has nothing but its length.
            (None, 1) => self.bytes.push(0),
            (None, _) => {
                self.bytes.extend_from_slice(&[u8::try_from(stuffing - 1).unwrap_or(0), 0]);
                self.bytes.resize(self.bytes.len() + stuffing - 2, 0xff);
            }
            (Some((length, rest)), _) => {
                self.bytes.push(length + u8::try_from(stuffing).unwrap_or(0));
                self.bytes.extend_from_slice(rest);
                self.bytes.resize(self.bytes.len() + stuffing, 0xff);
            }
        }
    }
}

/// Frames with the header that says when they are heard.
fn elementary(ticks: u64, frames: u64) -> Vec<u8> {
    let audio_bytes = FRAME_BYTES * usize::try_from(frames).unwrap_or(0);
    let length = u16::try_from(audio_bytes + 8).unwrap_or(0).to_be_bytes();
    let mut pes = vec![0, 0, 1, 0xc0, length[0], length[1], 0x80, 0x80, 5];
    let bits = |shift: u32, mask: u64| u8::try_from(ticks >> shift & mask).unwrap_or(0);
    pes.extend_from_slice(&[0x21 | bits(30, 7) << 1, bits(22, 255), 1 | bits(15, 127) << 1, bits(7, 255), 1 | bits(0, 127) << 1]);
    for _ in 0..frames {
        pes.extend_from_slice(&FRAME_HEADER);
        pes.resize(pes.len() + FRAME_BYTES - FRAME_HEADER.len(), 0);
    }
    pes
}

/// An adaptation field with the program clock.
fn clock_field(ticks: u64) -> [u8; 8] {
    let clock = (ticks << 15 | 0x7e00).to_be_bytes();
    [7, 0x10, clock[2], clock[3], clock[4], clock[5], clock[6], clock[7]]
}

fn high(pid: u16) -> u8 {
    pid.to_be_bytes()[0]
}

fn low(pid: u16) -> u8 {
    pid.to_be_bytes()[1]
}

/// CRC-32/MPEG-2.
fn crc(bytes: &[u8]) -> u32 {
    bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte) << 24, |crc, _| if crc >> 31 == 1 { crc << 1 ^ 0x04c1_1db7 } else { crc << 1 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_one_of_the_standard() {
        assert_eq!(crc(b"123456789"), 0x0376_e6e7);
    }

    #[test]
    fn a_segment_is_whole_packets_that_hold_all_frames() {
        let bytes = segment(3, 6);
        assert_eq!(bytes.len() % PACKET_BYTES, 0);
        assert!(bytes.chunks(PACKET_BYTES).all(|packet| packet[0] == 0x47));
        let frames = bytes.windows(4).filter(|window| *window == FRAME_HEADER).count();
        // A header that two packets share is not seen as a whole.
        assert!((200..=250).contains(&frames), "{frames}");
    }
}
