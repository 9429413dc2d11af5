//! Connection tracking: find flows, mark those that policy has revoked, forget those of an address that is given away.
//!
//! In: addresses and flows. Out: [`Flow`]s, and acknowledged changes. Deleting a flow does not revoke it: the next
//! segment of either side makes a new entry, in whichever direction it travels. A bit of the flow's mark does, because the
//! ruleset drops what carries it. Deleting is for addresses whose pod is gone, before another pod gets them.
//!
//! Blocking, like [`super::nft`].

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use weft_policy::nft::wire::{self, Message, Writer};

use super::netfilter::{DumpError, DumpProgress, NetfilterSocket};

const NFNL_SUBSYS_CTNETLINK: u16 = 1;
const CT_NEW: u16 = NFNL_SUBSYS_CTNETLINK << 8;
const CT_GET: u16 = NFNL_SUBSYS_CTNETLINK << 8 | 1;
const CT_DELETE: u16 = NFNL_SUBSYS_CTNETLINK << 8 | 2;
/// `AF_UNSPEC`
const ANY_FAMILY: u8 = 0;
/// `IPPROTO_UDP`
const UDP: u8 = 17;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP: u16 = 0x300;

const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_MARK: u16 = 8;
const CTA_ID: u16 = 12;
const CTA_ZONE: u16 = 18;
const CTA_MARK_MASK: u16 = 21;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V4_DST: u16 = 2;
const CTA_IP_V6_SRC: u16 = 3;
const CTA_IP_V6_DST: u16 = 4;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_SRC_PORT: u16 = 2;
const CTA_PROTO_DST_PORT: u16 = 3;

#[derive(Debug, thiserror::Error)]
pub enum ConntrackError {
    #[error("conntrack socket")]
    Socket(#[from] io::Error),
    #[error("kernel refused to change the flow {source_address} -> {destination}")]
    Refused { source_address: IpAddr, destination: IpAddr, source: io::Error },
    #[error("others kept changing the flows that were to be read")]
    DumpInterrupted,
}

impl From<DumpError> for ConntrackError {
    fn from(error: DumpError) -> Self {
        match error {
            DumpError::Socket(error) => Self::Socket(error),
            DumpError::Interrupted => Self::DumpInterrupted,
        }
    }
}

/// One direction of a flow, as the packets look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowTuple {
    pub source: IpAddr,
    pub destination: IpAddr,
    /// 0 for protocols without ports.
    pub source_port: u16,
    pub destination_port: u16,
}

impl FlowTuple {
    /// As the other side sends.
    fn turned(&self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            source_port: self.destination_port,
            destination_port: self.source_port,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    /// As the first packet came, before any NAT.
    pub original: FlowTuple,
    /// As answers come: its source is the real destination behind a service address.
    pub reply: FlowTuple,
    pub protocol: u8,
    pub mark: u32,
    /// What names the flow to the kernel, verbatim: attributes of the original tuple, zone and id.
    tuple: Vec<u8>,
    zone: Option<Vec<u8>>,
    id: Vec<u8>,
}

impl Flow {
    /// Whether one of `addresses` is at either end, before or behind NAT.
    pub fn touches(&self, addresses: &BTreeSet<IpAddr>) -> bool {
        [&self.original, &self.reply]
            .iter()
            .any(|tuple| addresses.contains(&tuple.source) || addresses.contains(&tuple.destination))
    }

    fn family(&self) -> u8 {
        family(self.original.source)
    }
}

#[derive(Debug)]
pub struct Conntrack {
    socket: NetfilterSocket,
}

impl Conntrack {
    pub fn open() -> io::Result<Self> {
        Ok(Self { socket: NetfilterSocket::open()? })
    }

    /// Flows with one of `addresses` at either end, before or behind NAT.
    pub fn flows(&mut self, addresses: &BTreeSet<IpAddr>) -> Result<Vec<Flow>, ConntrackError> {
        self.dump(|flow| flow.touches(addresses))
    }

    /// All flows, in parts of some hundred; the kernel makes the next when it is asked for. Until the end this socket can
    /// do nothing else.
    pub fn scan(&mut self) -> Result<Scan<'_>, ConntrackError> {
        let request = self.request(CT_GET, NLM_F_DUMP, ANY_FAMILY, |_| {});
        self.socket.begin_dump(&request)?;
        Ok(Scan { socket: &mut self.socket, progress: DumpProgress::default() })
    }

    /// In one pass over both families: it costs what the machine's whole table has buckets, 15-20 ms for 262144 of them,
    /// however few flows there are.
    fn dump(&mut self, wanted: impl Fn(&Flow) -> bool) -> Result<Vec<Flow>, ConntrackError> {
        let mut flows = Vec::new();
        let request = self.request(CT_GET, NLM_F_DUMP, ANY_FAMILY, |_| {});
        self.socket.dump(&request, &mut flows, Vec::clear, |flows, message| {
            flows.extend(parse_flow(message).filter(&wanted));
        })?;
        Ok(flows)
    }

    /// Sets or clears `bit` in the mark and leaves the other bits alone. A flow that has ended meanwhile is no error.
    pub fn set_mark_bit(&mut self, flow: &Flow, bit: u32, set: bool) -> Result<(), ConntrackError> {
        self.change(CT_NEW, flow, |out| {
            out.attr_u32(CTA_MARK, if set { bit } else { 0 });
            out.attr_u32(CTA_MARK_MASK, bit);
        })
    }

    /// Forgets all flows of these addresses; returns how many there were.
    pub fn delete_flows_of(&mut self, addresses: &BTreeSet<IpAddr>) -> Result<usize, ConntrackError> {
        self.delete(|flow| flow.touches(addresses))
    }

    /// Forgets the UDP flows to `ports` of the node that were not translated when they began: while their client keeps
    /// sending they would never be, and never reach the pod that now has the port. TCP begins a connection anew.
    ///
    /// `own` are the node's addresses: a flow to another machine's port is none of ours. A port at the unspecified address is
    /// one at all addresses of its family.
    pub fn delete_untranslated_udp(
        &mut self,
        ports: &BTreeSet<SocketAddr>,
        own: &BTreeSet<IpAddr>,
    ) -> Result<usize, ConntrackError> {
        self.delete(|flow| {
            let FlowTuple { destination, destination_port: port, .. } = flow.original;
            let unspecified: IpAddr = match destination {
                IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
                IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
            };
            flow.protocol == UDP
                && flow.original == flow.reply.turned()
                && own.contains(&destination)
                && [destination, unspecified].iter().any(|ip| ports.contains(&SocketAddr::new(*ip, port)))
        })
    }

    fn delete(&mut self, wanted: impl Fn(&Flow) -> bool) -> Result<usize, ConntrackError> {
        let flows = self.dump(wanted)?;
        flows.iter().try_for_each(|flow| self.change(CT_DELETE, flow, |out| out.attr(CTA_ID, &flow.id)))?;
        Ok(flows.len())
    }

    fn change(
        &mut self,
        kind: u16,
        flow: &Flow,
        body: impl FnOnce(&mut Writer),
    ) -> Result<(), ConntrackError> {
        let sequence = self.socket.next_sequence();
        let request = self.request(kind, NLM_F_ACK, flow.family(), |out| {
            out.nest(CTA_TUPLE_ORIG, |out| out.raw(&flow.tuple));
            if let Some(zone) = &flow.zone {
                out.attr(CTA_ZONE, zone);
            }
            body(out);
        });
        match self.socket.transact(&request, sequence)?.error {
            Some(error) if error.raw_os_error() != Some(libc::ENOENT) => Err(ConntrackError::Refused {
                source_address: flow.original.source,
                destination: flow.original.destination,
                source: error,
            }),
            _ => Ok(()),
        }
    }

    fn request(&mut self, kind: u16, flags: u16, family: u8, body: impl FnOnce(&mut Writer)) -> Vec<u8> {
        let mut out = Writer::new(self.socket.next_sequence());
        out.message(kind, flags, family, body);
        self.socket.set_next_sequence(out.sequence());
        out.into_bytes()
    }
}

/// A walk over all flows that others may hold up between its parts.
#[derive(Debug)]
pub struct Scan<'a> {
    socket: &'a mut NetfilterSocket,
    progress: DumpProgress,
}

impl Scan<'_> {
    /// `None` after the last.
    pub fn next_part(&mut self) -> Result<Option<Vec<Flow>>, ConntrackError> {
        if self.progress.done {
            return if self.progress.consistent { Ok(None) } else { Err(ConntrackError::DumpInterrupted) };
        }
        let mut flows = Vec::new();
        self.socket.dump_part(&mut self.progress, |message| flows.extend(parse_flow(message)))?;
        Ok(Some(flows))
    }
}

fn family(address: IpAddr) -> u8 {
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    u8::try_from(family).expect("2 or 10")
}

/// `None`: not a flow of IP.
fn parse_flow(message: &Message<'_>) -> Option<Flow> {
    if message.kind != CT_NEW {
        return None;
    }
    let tuple = message.attribute(CTA_TUPLE_ORIG)?;
    Some(Flow {
        original: parse_tuple(tuple)?,
        reply: parse_tuple(message.attribute(CTA_TUPLE_REPLY)?)?,
        protocol: *wire::find(wire::find(tuple, CTA_TUPLE_PROTO)?, CTA_PROTO_NUM)?.first()?,
        mark: message.attribute(CTA_MARK).and_then(wire::be_u32).unwrap_or_default(),
        tuple: tuple.to_vec(),
        zone: message.attribute(CTA_ZONE).map(<[u8]>::to_vec),
        id: message.attribute(CTA_ID)?.to_vec(),
    })
}

fn parse_tuple(tuple: &[u8]) -> Option<FlowTuple> {
    let ip = wire::find(tuple, CTA_TUPLE_IP)?;
    let proto = wire::find(tuple, CTA_TUPLE_PROTO)?;
    let address = |v4, v6| {
        wire::find(ip, v4)
            .and_then(|value| Some(IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(value).ok()?))))
            .or_else(|| Some(IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(wire::find(ip, v6)?).ok()?))))
    };
    let port = |kind| {
        let value = wire::find(proto, kind).and_then(|value| value.try_into().ok());
        value.map_or(0, u16::from_be_bytes)
    };
    Some(FlowTuple {
        source: address(CTA_IP_V4_SRC, CTA_IP_V6_SRC)?,
        destination: address(CTA_IP_V4_DST, CTA_IP_V6_DST)?,
        source_port: port(CTA_PROTO_SRC_PORT),
        destination_port: port(CTA_PROTO_DST_PORT),
    })
}
