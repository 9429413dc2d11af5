//! The peer that has a full table: writes it as fast as the speaker reads.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result, anyhow};
use weft_bgp::types::AfiSafi;
use weft_bgp::wire::encode_end_of_rib;

use super::routes::Routes;
use super::session::Session;
use super::testbed::Testbed;

pub(super) struct Sender {
    session: Session,
}

/// A table on its way.
pub(super) struct Sending {
    writer: JoinHandle<Result<()>>,
    reader: JoinHandle<()>,
    session: Session,
}

impl Sender {
    pub(super) fn connect(testbed: &Testbed) -> Result<Self> {
        Session::of_sender(testbed).map(|session| Self { session })
    }

    pub(super) fn send(self, routes: &Routes) -> Result<Sending> {
        let (mut out, mut back) = (self.session.stream.try_clone()?, self.session.stream.try_clone()?);
        let updates = routes.updates.clone();
        let writer = thread::spawn(move || {
            out.write_all(&updates).context("the speaker does not take the table")?;
            out.write_all(&encode_end_of_rib(AfiSafi::Ipv4Unicast)).context("End-of-RIB")
        });
        // What it says is of no interest, but a full socket would stop it.
        let reader = thread::spawn(move || {
            let mut nowhere = vec![0; 1 << 16];
            while back.read(&mut nowhere).is_ok_and(|len| len > 0) {}
        });
        Ok(Sending { writer, reader, session: self.session })
    }
}

impl Sending {
    /// Closes the session.
    pub(super) fn finish(self) -> Result<()> {
        self.writer.join().map_err(|_| anyhow!("the sender panicked"))??;
        self.session.stream.shutdown(Shutdown::Both)?;
        self.reader.join().map_err(|_| anyhow!("the sender's reader panicked"))
    }
}
