//! One file per decoder: its target, its seeds, and the properties that hold for any input.

pub mod bfd;
pub mod bgp_message;
pub mod bgp_session;
pub mod cni_call;
pub mod cni_frame;
pub mod cni_journal;
pub mod link_alias;
pub mod netlink;
pub mod nft_dump;
pub mod objects;

use crate::Target;

pub const ALL: [Target; 10] = [
    Target { name: "bfd", run: bfd::run, seeds: bfd::seeds, words: &[] },
    Target { name: "bgp_message", run: bgp_message::run, seeds: bgp_message::seeds, words: &[] },
    Target { name: "bgp_session", run: bgp_session::run, seeds: bgp_session::seeds, words: &[] },
    Target { name: "cni_call", run: cni_call::run, seeds: cni_call::seeds, words: cni_call::WORDS },
    Target { name: "cni_frame", run: cni_frame::run, seeds: cni_frame::seeds, words: cni_frame::WORDS },
    Target { name: "cni_journal", run: cni_journal::run, seeds: cni_journal::seeds, words: &[] },
    Target { name: "link_alias", run: link_alias::run, seeds: link_alias::seeds, words: link_alias::WORDS },
    Target { name: "netlink", run: netlink::run, seeds: netlink::seeds, words: &[] },
    Target { name: "nft_dump", run: nft_dump::run, seeds: nft_dump::seeds, words: &[] },
    Target { name: "objects", run: objects::run, seeds: objects::seeds, words: objects::WORDS },
];
