//! What the kernel can do, found out by doing it: on a thread in network namespaces of its own, which go with it.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkMessage};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkInfo, LinkMessage};
use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};
use netlink_sys::{Socket, SocketAddr};
use nix::sched::{CloneFlags, unshare};
use weft_policy::model::World;
use weft_policy::nft::{TableFlags, Transaction, create_table, wire};
use weft_policy::ruleset::Ruleset;
use weft_policy::{Options, compile};

use crate::answer::Finding;

const NLMSG_ERROR: u16 = 2;
/// Acknowledgements are small.
const DATAGRAM: usize = 64 << 10;

/// The rules of a node without policies, in the kernel.
pub(super) fn policy() -> Finding {
    const CHECK: &str = "nftables";
    let tried = in_private_namespace(|| {
        let owned = try_ruleset(TableFlags::Owned);
        if owned.is_ok() { owned.map(|()| true) } else { try_ruleset(TableFlags::Shared).map(|()| false) }
    });
    match tried {
        Ok(true) => Finding::ok(CHECK, "owned tables that persist"),
        Ok(false) => Finding::warning(
            CHECK,
            "no owned tables that persist (Linux 6.9 has them): others can change our rules, the agent repairs them",
        ),
        Err(error) => {
            Finding::missing(CHECK, format!("{error}: modules nf_tables, nf_conntrack and nft_ct are needed"))
        }
    }
}

fn try_ruleset(flags: TableFlags) -> io::Result<()> {
    // Another namespace for each attempt: a table of the other kind would be in the way.
    unshare(CloneFlags::CLONE_NEWNET)?;
    let socket = open(NETLINK_NETFILTER)?;
    let table = create_table(flags, 1);
    transact(&socket, table.bytes(), table.acknowledged())?;
    let ruleset = compile(&World::default(), &[], &Options::default()).ruleset;
    let batches = Transaction::diff(&ruleset, &Ruleset::default()).batches(table.next_sequence());
    batches.iter().try_for_each(|batch| transact(&socket, batch.bytes(), batch.acknowledged()))
}

/// A pod's link, made with one end in another namespace.
pub(super) fn veth() -> Finding {
    const CHECK: &str = "pod links";
    match in_private_namespace(try_veth) {
        Ok(()) => Finding::ok(CHECK, "veth pairs across namespaces"),
        Err(error) => Finding::missing(CHECK, format!("{error}: module veth is needed")),
    }
}

fn try_veth() -> io::Result<()> {
    const SEQUENCE: u32 = 1;
    let pod = File::open("/proc/thread-self/ns/net")?;
    unshare(CloneFlags::CLONE_NEWNET)?;
    let mut peer = LinkMessage::default();
    peer.attributes = vec![LinkAttribute::IfName("eth0".to_owned()), LinkAttribute::NetNsFd(pod.as_raw_fd())];
    let mut message = LinkMessage::default();
    message.attributes = vec![
        LinkAttribute::IfName("weftcheck".to_owned()),
        LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
        ]),
    ];
    let mut request = NetlinkMessage::from(RouteNetlinkMessage::NewLink(message));
    request.header.flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
    request.header.sequence_number = SEQUENCE;
    request.finalize();
    let mut bytes = vec![0; request.buffer_len()];
    request.serialize(&mut bytes);
    transact(&open(NETLINK_ROUTE)?, &bytes, SEQUENCE)
}

fn in_private_namespace<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let thread = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET)?;
        work()
    });
    thread.join().unwrap_or_else(|_| Err(io::Error::other("the attempt panicked")))
}

fn open(protocol: isize) -> io::Result<Socket> {
    let mut socket = Socket::new(protocol)?;
    socket.bind_auto()?;
    Ok(socket)
}

/// Sends, and waits for the acknowledgement of message `sequence`, or for the first refusal.
fn transact(socket: &Socket, bytes: &[u8], sequence: u32) -> io::Result<()> {
    socket.send_to(bytes, &SocketAddr::new(0, 0), 0)?;
    let mut buffer = Vec::with_capacity(DATAGRAM);
    loop {
        buffer.clear();
        socket.recv(&mut buffer, 0)?;
        for message in wire::messages(&buffer).filter(|message| message.kind == NLMSG_ERROR) {
            let code = message.payload.first_chunk::<4>().map_or(0, |code| i32::from_ne_bytes(*code));
            if code != 0 {
                return Err(io::Error::from_raw_os_error(-code));
            }
            if message.sequence == sequence {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::Verdict;

    /// Needs root, as all tests against the kernel.
    #[test]
    fn a_kernel_that_runs_our_tests_has_what_we_need() {
        for finding in [policy(), veth()] {
            assert_ne!(finding.verdict, Verdict::Missing, "{finding:?}");
        }
    }

    #[test]
    fn a_refusal_is_told_and_not_waited_out() {
        let error = in_private_namespace(|| {
            // There is none to delete.
            let socket = open(NETLINK_NETFILTER)?;
            transact(&socket, weft_policy::nft::delete_table(1).bytes(), 2)
        });
        assert_eq!(error.unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
