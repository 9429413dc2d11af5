//! Splits the byte stream of a connection into messages (RFC 4271 §4.1, §6.1).
//!
//! In: bytes as TCP hands them out, in pieces of any size. Out: one [`Frame`] per whole message, or the NOTIFICATION that
//! a broken header calls for. Every byte is copied once, so one-byte pieces cost no more than large ones.

use bytes::{Buf, Bytes, BytesMut};

use super::{HEADER_LEN, MAX_MESSAGE_LEN, MessageKind, Notification};

/// One message without its header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: MessageKind,
    pub body: Bytes,
}

/// The receive buffer of one connection. After an error the stream has no known boundary left: close it.
#[derive(Debug, Default)]
pub struct Framer {
    buffer: BytesMut,
}

impl Framer {
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole message; `None` when more bytes are needed. A broken header is found as soon as it is complete.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, Notification> {
        let Some(header) = self.buffer.first_chunk::<HEADER_LEN>() else {
            return Ok(None);
        };
        let (kind, len) = decode_header(header)?;
        if self.buffer.len() < len {
            return Ok(None);
        }
        let mut body = self.buffer.split_to(len).freeze();
        body.advance(HEADER_LEN);
        Ok(Some(Frame { kind, body }))
    }
}

/// Message kind and total length.
fn decode_header(header: &[u8; HEADER_LEN]) -> Result<(MessageKind, usize), Notification> {
    let [marker @ .., high, low, code] = header;
    if *marker != [0xff; 16] {
        return Err(Notification::connection_not_synchronized());
    }
    let wire_len = u16::from_be_bytes([*high, *low]);
    let len = usize::from(wire_len);
    if !(HEADER_LEN..=MAX_MESSAGE_LEN).contains(&len) {
        return Err(Notification::bad_message_length(wire_len));
    }
    let kind = MessageKind::from_code(*code).ok_or_else(|| Notification::bad_message_type(*code))?;
    if !kind.admits(len) {
        return Err(Notification::bad_message_length(wire_len));
    }
    Ok((kind, len))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::encode_keepalive;

    fn header(len: u16, code: u8) -> Vec<u8> {
        let mut bytes = vec![0xff; 16];
        bytes.extend(len.to_be_bytes());
        bytes.push(code);
        bytes
    }

    fn first_error(bytes: &[u8]) -> Notification {
        let mut framer = Framer::default();
        framer.push(bytes);
        framer.next_frame().expect_err("header is broken")
    }

    #[test]
    fn messages_come_out_whole_whatever_the_pieces() {
        let mut framer = Framer::default();
        let mut frames = Vec::new();
        let stream = [encode_keepalive(), encode_keepalive()].concat();
        for byte in stream {
            framer.push(&[byte]);
            while let Some(frame) = framer.next_frame().expect("stream is well-formed") {
                frames.push(frame.kind);
            }
        }
        assert_eq!(frames, [MessageKind::Keepalive, MessageKind::Keepalive]);
    }

    #[test]
    fn a_marker_that_is_not_all_ones_is_1_1() {
        let mut bytes = header(19, 4);
        bytes[7] = 0xfe;
        assert_eq!(first_error(&bytes), Notification::connection_not_synchronized());
    }

    #[test]
    fn lengths_outside_19_to_4096_are_1_2_with_the_length_as_data() {
        for len in [0, 18, 4097, u16::MAX] {
            assert_eq!(first_error(&header(len, 2)), Notification::bad_message_length(len));
        }
    }

    #[test]
    fn a_length_that_its_type_forbids_is_1_2() {
        for (len, code) in [(20, 4), (28, 1), (22, 2)] {
            assert_eq!(first_error(&header(len, code)), Notification::bad_message_length(len));
        }
    }

    #[test]
    fn unknown_types_are_1_3_with_the_type_as_data() {
        // 6 is Dynamic Capability, which we never advertise.
        for code in [0, 6, 255] {
            assert_eq!(first_error(&header(19, code)), Notification::bad_message_type(code));
        }
    }
}
