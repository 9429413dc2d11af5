//! The peer that must end up with the whole table: checks off every prefix on a thread of its own.

use std::net::Shutdown;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use weft_bgp::types::{AfiSafi, PeerKind};
use weft_bgp::wire::{DecodeContext, Message, Nlri};

use super::routes::{self, Routes};
use super::session::Session;
use super::testbed::Testbed;

pub(super) struct Receiver {
    stream: std::net::TcpStream,
    done: mpsc::Receiver<Result<()>>,
}

impl Receiver {
    pub(super) fn connect(testbed: &Testbed, routes: &Routes) -> Result<Self> {
        let session = Session::of_receiver(testbed)?;
        let stream = session.stream.try_clone()?;
        let (report, done) = mpsc::channel();
        let expected = routes.count;
        // Nobody waits for the report of a run that has been given up.
        thread::spawn(move || drop(report.send(receive(session, expected))));
        Ok(Self { stream, done })
    }

    pub(super) fn wait_for_all(self, limit: Duration) -> Result<()> {
        let result = self.done.recv_timeout(limit).context("the table did not arrive");
        self.stream.shutdown(Shutdown::Both)?;
        result?
    }
}

fn receive(mut session: Session, expected: u32) -> Result<()> {
    let context = DecodeContext {
        peer_kind: PeerKind::External,
        four_octet_asn: true,
        families: vec![AfiSafi::Ipv4Unicast],
        extended_nexthop: false,
    };
    let mut table = Checklist::default();
    while table.count < expected {
        match Message::decode(&session.next_frame()?, &context) {
            Ok(Message::Update(update)) => {
                if let Some(error) = update.errors.first() {
                    bail!("{error}");
                }
                update.unreach.iter().try_for_each(|nlri| table.set(nlri, false))?;
                update.reach.iter().try_for_each(|reach| table.set(&reach.nlri, true))?;
            }
            Ok(Message::Keepalive) => {}
            other => bail!("after {} prefixes: {other:?}", table.count),
        }
    }
    Ok(())
}

/// Which places are announced.
#[derive(Default)]
struct Checklist {
    announced: Vec<bool>,
    count: u32,
}

impl Checklist {
    fn set(&mut self, nlri: &Nlri, announced: bool) -> Result<()> {
        self.announced.resize(routes::MAX as usize, false);
        let Nlri::V4(prefixes) = nlri else { bail!("IPv6 was not negotiated") };
        for prefix in prefixes {
            let place = routes::place(*prefix).with_context(|| format!("nobody sent {prefix}"))?;
            let slot = self.announced.get_mut(place as usize).context("places are below the maximum")?;
            let before = std::mem::replace(slot, announced);
            self.count = self.count + u32::from(announced) - u32::from(before);
        }
        Ok(())
    }
}
