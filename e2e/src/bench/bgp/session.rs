//! Just enough of a BGP speaker to feed another one: opens a session over a blocking socket, and reads messages.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use socket2::{Domain, Socket, Type};
use weft_bgp::types::{AfiSafi, Asn, RouterId};
use weft_bgp::wire::{
    Capabilities, DecodeContext, Frame, Framer, Message, MessageKind, Open, encode_keepalive,
};

use super::testbed::{RECEIVER, SENDER, SPEAKER, Testbed};
use crate::wait;

pub(super) const SPEAKER_ASN: Asn = Asn(65001);
pub(super) const SENDER_ASN: Asn = Asn(65002);
pub(super) const RECEIVER_ASN: Asn = Asn(65003);

/// Longer than any run, so that nobody has to send KEEPALIVEs.
const HOLD_TIME: u16 = 3600;
/// For the speaker to listen.
const PATIENCE: Duration = Duration::from_secs(10);

/// An established session.
pub(super) struct Session {
    pub(super) stream: TcpStream,
    framer: Framer,
    buffer: Vec<u8>,
}

impl Session {
    pub(super) fn of_sender(testbed: &Testbed) -> Result<Self> {
        testbed.testers.enter(|| Self::establish(SENDER, SENDER_ASN))
    }

    pub(super) fn of_receiver(testbed: &Testbed) -> Result<Self> {
        testbed.testers.enter(|| Self::establish(RECEIVER, RECEIVER_ASN))
    }

    fn establish(from: Ipv4Addr, asn: Asn) -> Result<Self> {
        wait::until("session", PATIENCE, || Self::try_establish(from, asn).map(Some))
    }

    fn try_establish(from: Ipv4Addr, asn: Asn) -> Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind(&SocketAddr::from((from, 0)).into())?;
        socket.connect(&SocketAddr::from((SPEAKER, 179)).into())?;
        let mut session = Self { stream: socket.into(), framer: Framer::default(), buffer: vec![0; 1 << 18] };
        let capabilities = Capabilities {
            families: vec![AfiSafi::Ipv4Unicast],
            four_octet_asn: true,
            ..Capabilities::default()
        };
        let open = Open { asn, hold_time: HOLD_TIME, router_id: RouterId(from), capabilities };
        session.stream.write_all(&open.encode())?;
        session.expect(MessageKind::Open)?;
        session.stream.write_all(&encode_keepalive())?;
        session.expect(MessageKind::Keepalive)?;
        Ok(session)
    }

    fn expect(&mut self, kind: MessageKind) -> Result<()> {
        let frame = self.next_frame()?;
        if frame.kind != kind {
            bail!("{kind:?} expected: {:?}", Message::decode(&frame, &DecodeContext::default()));
        }
        Ok(())
    }

    /// Blocks until there is one.
    pub(super) fn next_frame(&mut self) -> Result<Frame> {
        loop {
            match self.framer.next_frame() {
                Ok(Some(frame)) => return Ok(frame),
                Ok(None) => {}
                Err(error) => bail!("the speaker sent what is no BGP: {error}"),
            }
            let len = self.stream.read(&mut self.buffer).context("reading from the speaker")?;
            if len == 0 {
                bail!("the speaker closed the session");
            }
            self.framer.push(self.buffer.get(..len).unwrap_or_default());
        }
    }
}
