//! Table `inet weft` of this thread's namespace, by the shortest way: send a batch, read its answer.

use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};
use nix::sys::socket::{setsockopt, sockopt};
use weft_policy::nft::{Batch, Dump, TableFlags, Transaction, create_table, wire};
use weft_policy::ruleset::Ruleset;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;

pub(crate) struct KernelTable {
    socket: Socket,
    sequence: u32,
}

impl KernelTable {
    pub(crate) fn create() -> Self {
        let mut socket = Socket::new(NETLINK_NETFILTER).unwrap();
        socket.bind_auto().unwrap();
        socket.set_ext_ack(true).unwrap();
        setsockopt(&socket, sockopt::SndBufForce, &(64 << 20)).unwrap();
        let mut table = Self { socket, sequence: 1 };
        table.send(&create_table(TableFlags::Shared, 1)).expect("the table is created");
        table
    }

    /// The error names the object.
    pub(crate) fn commit(&mut self, want: &Ruleset, have: &Ruleset) -> Result<(), String> {
        let batches = Transaction::diff(want, have).batches(self.sequence);
        batches.iter().try_for_each(|batch| self.send(batch))
    }

    pub(crate) fn dump(&mut self) -> Dump {
        let mut dump = Dump::default();
        Dump::requests(1).iter().for_each(|request| self.read(request, &mut dump));
        dump.element_requests(10).iter().for_each(|request| self.read(request, &mut dump));
        dump
    }

    fn send(&mut self, batch: &Batch) -> Result<(), String> {
        self.sequence = batch.next_sequence();
        self.socket.send_to(batch.bytes(), &SocketAddr::new(0, 0), 0).unwrap();
        loop {
            let (datagram, _) = self.socket.recv_from_full().unwrap();
            for message in wire::messages(&datagram).filter(|message| message.kind == NLMSG_ERROR) {
                match i32::from_ne_bytes(message.payload[..4].try_into().unwrap()) {
                    0 if message.sequence == batch.acknowledged() => return Ok(()),
                    0 => {}
                    code => return Err(format!("{}: errno {}", batch.describe(message.sequence), -code)),
                }
            }
        }
    }

    fn read(&mut self, request: &[u8], dump: &mut Dump) {
        self.socket.send_to(request, &SocketAddr::new(0, 0), 0).unwrap();
        loop {
            let (datagram, _) = self.socket.recv_from_full().unwrap();
            for message in wire::messages(&datagram) {
                assert_ne!(message.kind, NLMSG_ERROR, "the kernel refuses the dump");
                if message.kind == NLMSG_DONE {
                    return;
                }
                dump.absorb(&message);
            }
        }
    }
}
