//! The wire layer alone: how long an UPDATE takes to decode and to encode.

use std::hint::black_box;
use std::time::Duration;

use bytes::BytesMut;
use nix::time::{ClockId, clock_gettime};
use weft_bgp::types::{AfiSafi, PeerKind};
use weft_bgp::wire::{DecodeContext, EncodeContext, Frame, Framer, Message, Nlri, Update, encode_reach};

use super::routes::Routes;

const PREFIXES: u32 = 200_000;
const ROUNDS: u32 = 5;

pub(super) fn run() {
    let routes = Routes::new(PREFIXES);
    let context = DecodeContext {
        peer_kind: PeerKind::External,
        four_octet_asn: true,
        families: vec![AfiSafi::Ipv4Unicast],
        extended_nexthop: false,
    };
    let framing = nanos_per_message(&routes, || frames(&routes).len());
    let frames = frames(&routes);
    let decoding = nanos_per_message(&routes, || {
        frames.iter().filter(|frame| black_box(Message::decode(frame, &context)).is_ok()).count()
    });
    let updates: Vec<Update> =
        frames.iter().filter_map(|frame| Update::decode(&frame.body, &context).ok()).collect();
    let encoding = nanos_per_message(&routes, || encode(&updates).len());
    println!("codec, ns per UPDATE of {} prefixes:", PREFIXES / routes.messages);
    println!("  frame {framing}, decode {decoding}, encode {encoding}");
}

/// Of CPU time, so that what else the machine does counts little.
fn nanos_per_message<T>(routes: &Routes, mut work: impl FnMut() -> T) -> u128 {
    let cpu_time = || clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(Duration::from).unwrap_or_default();
    let best = (0..ROUNDS).map(|_| {
        let start = cpu_time();
        black_box(work());
        cpu_time().saturating_sub(start)
    });
    best.min().unwrap_or_default().as_nanos() / u128::from(routes.messages)
}

fn frames(routes: &Routes) -> Vec<Frame> {
    let mut framer = Framer::default();
    let mut frames = Vec::with_capacity(routes.messages as usize);
    for chunk in routes.updates.chunks(1 << 16) {
        framer.push(chunk);
        while let Ok(Some(frame)) = framer.next_frame() {
            frames.push(frame);
        }
    }
    frames
}

fn encode(updates: &[Update]) -> BytesMut {
    let context = EncodeContext { four_octet_asn: true, max_message_len: 4096, extended_nexthop: false };
    let mut out = BytesMut::new();
    for update in updates {
        for reach in &update.reach {
            if let Nlri::V4(prefixes) = &reach.nlri {
                encode_reach(&update.attributes, reach.nexthop, prefixes, &context, &mut out);
            }
        }
    }
    out
}
