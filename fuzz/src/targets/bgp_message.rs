//! BGP's bytes to messages, in each context that a session can have.
//!
//! Properties: nothing panics; whole messages come out the same whatever the pieces they arrive in; an OPEN that was
//! understood is understood the same when we write it.

use weft_bgp::types::{AfiSafi, PeerKind};
use weft_bgp::wire::{DecodeContext, Frame, Framer, Message};

const PIECE: usize = 7;

pub fn run(data: &[u8]) {
    let frames = frames(&[data]);
    let pieces: Vec<&[u8]> = data.chunks(PIECE).collect();
    assert_eq!(frames, self::frames(&pieces), "pieces make a difference");
    for frame in &frames {
        contexts().iter().for_each(|context| decode(frame, context));
    }
}

fn frames(pieces: &[&[u8]]) -> Vec<Frame> {
    let mut framer = Framer::default();
    let mut frames = Vec::new();
    for piece in pieces {
        framer.push(piece);
        loop {
            match framer.next_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(_) => return frames,
            }
        }
    }
    frames
}

fn contexts() -> Vec<DecodeContext> {
    let mut contexts = Vec::new();
    for peer_kind in [PeerKind::Internal, PeerKind::External] {
        for wide in [false, true] {
            let families = if wide { AfiSafi::ALL.to_vec() } else { vec![AfiSafi::Ipv4Unicast] };
            contexts.push(DecodeContext {
                peer_kind,
                four_octet_asn: wide,
                families,
                extended_nexthop: wide,
            });
        }
    }
    contexts
}

fn decode(frame: &Frame, context: &DecodeContext) {
    match Message::decode(frame, context) {
        Ok(Message::Open(open)) => {
            let again = frames(&[&open.encode()]);
            let Ok(Message::Open(again)) = Message::decode(&again[0], context) else {
                panic!("ours: {open:?}")
            };
            assert_eq!(
                (open.asn, open.hold_time, open.router_id),
                (again.asn, again.hold_time, again.router_id)
            );
        }
        Ok(message) => drop(format!("{message:?}")),
        Err(notification) => assert!(notification.encode().len() <= weft_bgp::wire::MAX_MESSAGE_LEN),
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    let messages = super::bgp_session::messages();
    let all = messages.concat();
    messages.into_iter().chain([all]).collect()
}
