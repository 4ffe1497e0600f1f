//! Where one WebSocket frame ends and the next may begin (RFC 6455 §5.2). No payload is looked at.

use bytes::Bytes;

/// The longest head of a frame: two bytes, a length of eight, a mask of four.
const MAX_HEAD: usize = 14;

/// "Going away" (RFC 6455 §7.4.1): the endpoint is going down, or is not to be waited for any longer.
const GOING_AWAY: u16 = 1001;

/// Follows the bytes of one direction from the beginning of a frame.
#[derive(Debug, Clone, Default)]
pub struct Frames {
    head: [u8; MAX_HEAD],
    /// Bytes of the present frame's head that have come.
    have: usize,
    /// Bytes of its payload that have not.
    payload_left: u64,
    has_closed: bool,
}

impl Frames {
    /// Takes the next bytes.
    pub fn see(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.payload_left > 0 {
                let left = usize::try_from(self.payload_left).unwrap_or(usize::MAX);
                let taken = left.min(bytes.len());
                self.payload_left -= taken as u64;
                bytes = &bytes[taken..];
                continue;
            }
            self.head[self.have] = bytes[0];
            self.have += 1;
            bytes = &bytes[1..];
            if let Some(payload) = self.whole_head() {
                self.has_closed |= self.head[0] & 0x0f == 8;
                self.payload_left = payload;
                self.have = 0;
            }
        }
    }

    /// The payload's length, once the head is whole.
    fn whole_head(&self) -> Option<u64> {
        let head = self.head.get(..self.have).filter(|head| head.len() >= 2)?;
        let extended = match head[1] & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let mask = if head[1] & 0x80 == 0 { 0 } else { 4 };
        if head.len() < 2 + extended + mask {
            return None;
        }
        if extended == 0 {
            return Some(u64::from(head[1] & 0x7f));
        }
        let length = head[2..2 + extended].iter();
        Some(length.fold(0, |length, byte| length << 8 | u64::from(*byte)))
    }

    /// Whether a control frame can stand here: between two frames, and before the close.
    #[must_use]
    pub fn can_take_a_frame(&self) -> bool {
        self.payload_left == 0 && self.have == 0 && !self.has_closed
    }
}

/// A server's close frame with the code 1001 and this reason, of 123 bytes at most.
#[must_use]
pub fn going_away(reason: &'static str) -> Bytes {
    let reason = &reason.as_bytes()[..reason.len().min(123)];
    // The length fits: a control frame carries up to 125 bytes.
    let length = u8::try_from(reason.len() + 2).unwrap_or(125);
    let mut frame = vec![0x88, length];
    frame.extend_from_slice(&GOING_AWAY.to_be_bytes());
    frame.extend_from_slice(reason);
    frame.into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(opcode: u8, masked: bool, length: usize) -> Vec<u8> {
        const SHORT: u8 = 0x7e;
        const LONG: u8 = 0x7f;
        let mask = if masked { 0x80 } else { 0 };
        let mut frame = vec![0x80 | opcode];
        if let Ok(length) = u8::try_from(length).map(|length| length.min(SHORT))
            && length < SHORT
        {
            frame.push(mask | length);
        } else if let Ok(length) = u16::try_from(length) {
            frame.push(mask | SHORT);
            frame.extend_from_slice(&length.to_be_bytes());
        } else {
            frame.push(mask | LONG);
            frame.extend_from_slice(&(length as u64).to_be_bytes());
        }
        if masked {
            frame.extend_from_slice(&[1, 2, 3, 4]);
        }
        frame.resize(frame.len() + length, 0x88);
        frame
    }

    proptest! {
        #[test]
        fn the_end_of_a_frame_is_found_whatever_its_length_and_the_splits(
            frames in proptest::collection::vec((1_u8..3, any::<bool>(), prop_oneof![0_usize..130, 65_500_usize..65_600]), 1..6),
            piece in 1_usize..5_000,
        ) {
            let mut follows = Frames::default();
            let mut ends = Vec::new();
            let mut bytes = Vec::new();
            for (opcode, masked, length) in frames {
                bytes.extend(frame(opcode, masked, length));
                ends.push(bytes.len());
            }
            let mut at = 0;
            for piece in bytes.chunks(piece) {
                follows.see(piece);
                at += piece.len();
                prop_assert_eq!(follows.can_take_a_frame(), ends.contains(&at), "at {}", at);
            }
        }
    }

    #[test]
    fn nothing_is_said_after_a_close() {
        let mut frames = Frames::default();
        frames.see(&going_away("bye"));
        assert!(!frames.can_take_a_frame());
        assert_eq!(going_away("bye"), &b"\x88\x05\x03\xe9bye"[..]);
    }
}
