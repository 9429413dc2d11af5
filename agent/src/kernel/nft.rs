//! Table `inet weft` in the kernel: the one socket that owns it, and a watch for others' hands on it.
//!
//! In: [`Transaction`]s. Out: acknowledged commits, and [`Dump`]s of what is there. The table is created with flags
//! `owner,persist`: while this socket lives nobody else can change it, `nft flush ruleset` passes it by, and when the
//! process dies its rules stay in force until the next agent adopts them. Kernels before 6.9 know no `persist`; there
//! the table is an ordinary one and [`NftMonitor`] tells when somebody changed it.
//!
//! Calls block for as long as the kernel works: microseconds for an element, 100 ms for 100,000. An async caller on a
//! multi-threaded runtime uses `block_in_place`.

use std::io;

use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket};
use nix::sys::socket::{setsockopt, sockopt};
use weft_policy::nft::{
    Batch, Dump, TableFlags, TableState, Transaction, create_table, delete_table, names_our_table,
    parse_commit, wire,
};
use weft_policy::ruleset::Ruleset;

use super::netfilter::{DumpError, NetfilterSocket};

/// Why the table is not as wanted. After any of them what the kernel holds is best read again: [`NftTable::resync`].
#[derive(Debug, thiserror::Error)]
pub enum NftError {
    #[error("nf_tables socket")]
    Socket(#[from] io::Error),
    /// The rules that were in force still are.
    #[error("kernel refused {object}{}", detail.as_ref().map(|text| format!(" ({text})")).unwrap_or_default())]
    Refused {
        /// `rule of chain i4_ab12`
        object: String,
        detail: Option<String>,
        source: io::Error,
    },
    /// Most likely another agent on this node.
    #[error("table inet weft belongs to another living process (netlink port {port})")]
    ForeignOwner { port: u32 },
    #[error("others kept changing nf_tables while our table was to be read")]
    DumpInterrupted,
}

impl From<DumpError> for NftError {
    fn from(error: DumpError) -> Self {
        match error {
            DumpError::Socket(error) => Self::Socket(error),
            DumpError::Interrupted => Self::DumpInterrupted,
        }
    }
}

/// The owner of table `inet weft`. Keep it for the life of the process: the kernel knows the owner by its socket.
#[derive(Debug)]
pub struct NftTable {
    socket: NetfilterSocket,
    flags: TableFlags,
}

impl NftTable {
    /// Creates the table, or adopts the one that a former agent left, and says what is in it.
    pub fn open() -> Result<(Self, Dump), NftError> {
        let mut table = Self { socket: NetfilterSocket::open()?, flags: TableFlags::Owned };
        let dump = table.resync()?;
        Ok((table, dump))
    }

    /// Removes the table that an agent left; whether there was one.
    pub fn remove() -> Result<bool, NftError> {
        let mut table = Self { socket: NetfilterSocket::open()?, flags: TableFlags::Owned };
        if table.table_state()?.is_none() {
            return Ok(false);
        }
        // Only its owner may delete it.
        table.claim()?;
        table.send(&delete_table(table.socket.next_sequence()))?;
        Ok(true)
    }

    /// Whether the kernel keeps others away from the table.
    pub fn flags(&self) -> TableFlags {
        self.flags
    }

    /// Returns when all of it is in force. On an error nothing that packets can see has changed.
    pub fn commit(&mut self, transaction: &Transaction) -> Result<(), NftError> {
        let batches = transaction.batches(self.socket.next_sequence());
        batches.iter().try_for_each(|batch| self.send(batch))
    }

    /// Makes sure that the table is there and ours, and reads it.
    pub fn resync(&mut self) -> Result<Dump, NftError> {
        self.claim()?;
        self.dump()
    }

    /// Reads the table and says what has to change: empty when the kernel holds what is wanted.
    pub fn audit(&mut self, want: &Ruleset) -> Result<Transaction, NftError> {
        let have = self.resync()?.recognise(want);
        Ok(Transaction::diff(want, &have))
    }

    fn claim(&mut self) -> Result<(), NftError> {
        match self.table_state()?.and_then(|state| state.owner) {
            Some(port) if port == self.socket.port() => return Ok(()),
            Some(port) => return Err(NftError::ForeignOwner { port }),
            None => {}
        }
        self.flags = TableFlags::Owned;
        match self.send(&create_table(self.flags, self.socket.next_sequence())) {
            // An older kernel, or a table that an agent on an older kernel made.
            Err(NftError::Refused { source, .. })
                if matches!(source.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EINVAL)) =>
            {
                self.flags = TableFlags::Shared;
                self.send(&create_table(self.flags, self.socket.next_sequence()))
            }
            other => other,
        }
    }

    fn send(&mut self, batch: &Batch) -> Result<(), NftError> {
        self.socket.set_next_sequence(batch.next_sequence());
        let answer = self.socket.transact(batch.bytes(), batch.acknowledged())?;
        match answer.error {
            None => Ok(()),
            Some(source) => Err(NftError::Refused {
                object: batch.describe(answer.sequence),
                detail: answer.detail,
                source,
            }),
        }
    }

    fn table_state(&mut self) -> Result<Option<TableState>, NftError> {
        let mut dump = Dump::default();
        let first = Dump::requests(self.socket.next_sequence()).into_iter().take(1).collect();
        self.read(&mut dump, first)?;
        Ok(dump.table())
    }

    fn dump(&mut self) -> Result<Dump, NftError> {
        let mut dump = Dump::default();
        self.read(&mut dump, Dump::requests(self.socket.next_sequence()))?;
        let requests = dump.element_requests(self.socket.next_sequence());
        self.read(&mut dump, requests)?;
        Ok(dump)
    }

    /// Each request adds to `dump`; an interrupted one starts again from what the ones before had found.
    fn read(&mut self, dump: &mut Dump, requests: Vec<Vec<u8>>) -> Result<(), NftError> {
        for request in requests {
            let before = dump.clone();
            let sequence = self.socket.next_sequence().wrapping_add(1);
            self.socket.set_next_sequence(sequence);
            self.socket.dump(&request, dump, |dump| dump.clone_from(&before), Dump::absorb)?;
        }
        Ok(())
    }
}

/// Somebody else's hand on our table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ForeignChange {
    By {
        pid: u32,
        process: String,
    },
    /// Notifications were lost, so there may have been one.
    Unknown,
}

/// Notifications of changes that did not come from our own socket.
pub struct NftMonitor {
    socket: TokioSocket,
    own_port: u32,
    /// Our table was named since the last commit ended.
    touched: bool,
}

impl NftMonitor {
    /// Needs a tokio runtime. Audit once afterwards: what changed between `table`'s last dump and this call goes unseen.
    pub fn open(table: &NftTable) -> io::Result<Self> {
        /// `NFNLGRP_NFTABLES`
        const GROUP: u32 = 7;
        /// Our own big commits are announced here too.
        const BUFFER: usize = 16 << 20;
        let mut socket = TokioSocket::new(NETLINK_NETFILTER)?;
        setsockopt(socket.socket_ref(), sockopt::RcvBufForce, &BUFFER)?;
        socket.socket_mut().bind(&SocketAddr::new(0, 0))?;
        socket.socket_mut().add_membership(GROUP)?;
        Ok(Self { socket, own_port: table.socket.port(), touched: false })
    }

    /// Waits for the next one. Cancel-safe.
    pub async fn foreign_change(&mut self) -> io::Result<ForeignChange> {
        loop {
            match self.socket.recv_from_full().await {
                Ok((datagram, _)) => {
                    if let Some(change) = self.judge(&datagram) {
                        return Ok(change);
                    }
                }
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    return Ok(ForeignChange::Unknown);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// A commit's changes come first, then who made them.
    fn judge(&mut self, datagram: &[u8]) -> Option<ForeignChange> {
        let mut change = None;
        for message in wire::messages(datagram) {
            if let Some((pid, process)) = parse_commit(&message) {
                if std::mem::take(&mut self.touched) {
                    change = Some(ForeignChange::By { pid, process });
                }
            } else if names_our_table(&message) && message.port != self.own_port {
                self.touched = true;
            }
        }
        change
    }
}

impl std::fmt::Debug for NftMonitor {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("NftMonitor").field("own_port", &self.own_port).finish_non_exhaustive()
    }
}
