//! One stream of UPDATEs: a reader of the tables that encodes each change once, for all its members.
//!
//! Members are peers with equal export settings that are equally far, give or take the messages in the log. The log is
//! bounded; who falls behind by more than it holds gets a stream of its own ([`super::AdjOut`]), and then what it is
//! behind is no messages but the distance of its cursors.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use foldhash::fast::FixedState;
use smallvec::SmallVec;

use super::super::loc_rib::Core;
use super::super::peers::{LOCAL, Slot, StreamId};
use super::super::policy::GroupKey;
use super::super::table::{DestId, Table, TablePrefix};
use super::Tables;
use super::sent::{Sent, SentMap};
use crate::types::AfiSafi;
use crate::wire::{encode_end_of_rib, encode_reach, encode_unreach};

/// Changes that are encoded together, so that prefixes with equal attributes share a message. Small in tests, so that
/// they meet its edge.
const BATCH: usize = if cfg!(test) { 8 } else { 1024 };
/// Encoded octets in one piece of the log, about. Few in tests, as above.
const CHUNK_LEN: usize = if cfg!(test) { 128 } else { 64 * 1024 };

#[derive(Debug)]
pub(super) struct Stream {
    pub(super) key: Arc<GroupKey>,
    pub(super) members: Vec<Slot>,
    pub(super) families: [FamilyOut; AfiSafi::ALL.len()],
    /// Encoded, and not yet taken by every member.
    pub(super) log: VecDeque<Chunk>,
    /// Position of the log's first chunk; counts from the beginning of the stream.
    pub(super) log_start: u64,
    /// Octets that the log takes.
    pub(super) log_len: usize,
    /// Something has been encoded: too late to join at the beginning.
    pub(super) started: bool,
}

#[derive(Clone, Debug)]
pub(super) struct FamilyOut {
    pub(super) cursor: u32,
    pub(super) sent: SentMap,
    /// End-of-RIB follows when the cursor first reaches the end (RFC 4724 §2).
    pub(super) end_of_rib_due: bool,
}

/// Whole messages for the same readers.
#[derive(Clone, Debug)]
pub(super) struct Chunk {
    pub(super) bytes: Bytes,
    pub(super) audience: Audience,
    /// Members that have not passed it yet.
    pub(super) readers: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Audience {
    All,
    Except(Slot),
    Only(Slot),
}

impl Audience {
    pub(super) fn includes(self, member: Slot) -> bool {
        match self {
            Self::All => true,
            Self::Except(slot) => member != slot,
            Self::Only(slot) => member == slot,
        }
    }
}

/// A prefix of a batch: what its group was told, and is to be told.
#[derive(Clone, Debug)]
struct Delta<P> {
    dest: DestId,
    prefix: P,
    before: Option<Sent>,
    after: Option<Sent>,
    /// What the filter has to say of it, besides that it passes.
    rules: SmallVec<[u16; 4]>,
}

impl Stream {
    pub(super) fn new(key: Arc<GroupKey>, hasher: &FixedState) -> Self {
        let family = |_| FamilyOut { cursor: 0, sent: SentMap::new(hasher.clone()), end_of_rib_due: true };
        Self {
            key,
            members: Vec::new(),
            families: AfiSafi::ALL.map(family),
            log: VecDeque::new(),
            log_start: 0,
            log_len: 0,
            started: false,
        }
    }

    /// Both have advertised the same.
    pub(super) fn advertises_the_same_as(&self, other: &Self) -> bool {
        self.families.iter().zip(&other.families).all(|(one, other)| one.sent.equals(&other.sent))
    }

    /// All of a family once more, whatever has been told.
    pub(super) fn restart(&mut self, family: AfiSafi, core: &mut Core) {
        self.readvertise(family, core, |_, _, _| false);
    }

    /// Goes on by other rules: what they make of a route is told where it differs.
    pub(super) fn adopt(&mut self, key: GroupKey, tables: &Tables, core: &mut Core) {
        let before = std::mem::replace(&mut self.key, Arc::new(key));
        let key = Arc::clone(&self.key);
        let by_prefix = [&before, &key].iter().any(|key| !key.export.filter.is_empty());
        for family in key.families.iter().copied() {
            let mut known = BTreeMap::new();
            self.readvertise(family, core, |dest, sent, core| {
                let prefix = tables.prefix(family, dest);
                let attributes = &core.shared.attributes.get(sent.attributes).values;
                let via = core.shared.via(sent.nexthop);
                let same = || before.export(via, attributes, prefix) == key.export(via, attributes, prefix);
                let made_of = (sent.attributes, sent.nexthop, by_prefix.then_some(dest));
                *known.entry(made_of).or_insert_with(same)
            });
        }
    }

    /// Reads the table from the start; what has been told and does not `stand` is told again.
    fn readvertise(
        &mut self,
        family: AfiSafi,
        core: &mut Core,
        mut stands: impl FnMut(DestId, Sent, &Core) -> bool,
    ) {
        let out = &mut self.families[family.index()];
        out.cursor = 0;
        for contents in out.sent.forget(|dest, sent| stands(dest, sent, core)) {
            core.shared.release(contents);
        }
    }

    pub(super) fn log_end(&self) -> u64 {
        self.log_start + self.log.len() as u64
    }

    /// The chunk at a position, for a member that moves past it; `None` when it is not for this member.
    pub(super) fn take(&mut self, position: u64, member: Slot) -> Option<Bytes> {
        let at = usize::try_from(position.checked_sub(self.log_start)?).ok()?;
        let chunk = self.log.get_mut(at)?;
        chunk.readers -= 1;
        let bytes = chunk.audience.includes(member).then(|| chunk.bytes.clone());
        self.trim();
        bytes
    }

    pub(super) fn trim(&mut self) {
        while let Some(chunk) = self.log.pop_front_if(|chunk| chunk.readers == 0) {
            self.log_start += 1;
            self.log_len -= chunk.bytes.len() + size_of::<Chunk>();
        }
    }

    fn push(&mut self, bytes: Bytes, audience: Audience) {
        self.log_len += bytes.len() + size_of::<Chunk>();
        self.log.push_back(Chunk { bytes, audience, readers: self.members.len() });
    }

    /// Follows the changes of one family until something is encoded or nothing is left.
    pub(super) fn fill<P: TablePrefix>(&mut self, id: StreamId, table: &mut Table<P>, core: &mut Core) {
        self.started = true;
        let family = Table::<P>::FAMILY;
        let log_end = self.log_end();
        while self.log_end() == log_end {
            let deltas = self.next_batch(table, core);
            let out = &mut self.families[family.index()];
            if deltas.is_empty() && out.cursor >= table.end() {
                if std::mem::take(&mut out.end_of_rib_due) {
                    self.push(encode_end_of_rib(family), Audience::All);
                }
                return;
            }
            self.send(id, deltas, table, core);
        }
    }

    fn next_batch<P: TablePrefix>(&mut self, table: &Table<P>, core: &Core) -> Vec<Delta<P>> {
        let out = &mut self.families[Table::<P>::FAMILY.index()];
        let mut deltas = Vec::new();
        for _ in 0..BATCH {
            let Some(dest) = table.next_change(&mut out.cursor) else { break };
            let before = out.sent.get(dest);
            let after = exported(&self.key, table, core, dest);
            if before != after {
                let prefix = table.dest(dest).prefix;
                let rules = after.map_or_else(SmallVec::new, |sent| {
                    let attributes = &core.shared.attributes.get(sent.attributes).values;
                    self.key.filter(prefix.into(), attributes).rules
                });
                deltas.push(Delta { dest, prefix, before, after, rules });
            }
        }
        deltas
    }

    /// Encodes a batch and records it as sent.
    fn send<P: TablePrefix>(
        &mut self,
        id: StreamId,
        mut deltas: Vec<Delta<P>>,
        table: &mut Table<P>,
        core: &mut Core,
    ) {
        let mut writer = Writer::new(self);
        // Stable, so that equal keys keep the order of the changes.
        deltas.sort_by(|a, b| (a.after, &a.rules).cmp(&(b.after, &b.rules)));
        for run in deltas.chunk_by_mut(|a, b| (a.after, &a.rules) == (b.after, &b.rules)) {
            writer.announce(id, run, core);
        }
        let mut withdrawals: Vec<(Audience, P)> = Vec::new();
        for delta in &deltas {
            withdrawals.extend(withdrawal(id, delta, core).map(|audience| (audience, delta.prefix)));
        }
        withdrawals.sort_by_key(|(audience, _)| *audience);
        for run in withdrawals.chunk_by(|a, b| a.0 == b.0) {
            let prefixes: Vec<P> = run.iter().map(|(_, prefix)| *prefix).collect();
            writer.withdraw(run[0].0, &prefixes);
        }
        writer.flush();
        for delta in &deltas {
            self.record(delta, table, core);
        }
    }

    fn record<P: TablePrefix>(&mut self, delta: &Delta<P>, table: &mut Table<P>, core: &mut Core) {
        if let Some(after) = delta.after {
            core.shared.retain((after.attributes, after.nexthop));
            table.pin(delta.dest);
        }
        if let Some(before) = self.families[Table::<P>::FAMILY.index()].sent.set(delta.dest, delta.after) {
            core.shared.release((before.attributes, before.nexthop));
            table.unpin(delta.dest);
        }
    }
}

/// What the group is to be told of a prefix.
pub(super) fn exported<P: TablePrefix>(
    key: &GroupKey,
    table: &Table<P>,
    core: &Core,
    dest: DestId,
) -> Option<Sent> {
    let path = table.path(table.best(core, dest)?);
    let attributes = &core.shared.attributes.get(path.attributes).values;
    let sent = Sent { attributes: path.attributes, nexthop: path.nexthop, source: path.peer };
    let from_client = core.peers.get(path.peer).is_some_and(|peer| peer.config.client);
    let goes_out = key.admits(core.shared.via(path.nexthop), from_client, attributes)
        && key.filter(table.dest(dest).prefix.into(), attributes).accepted != Some(false);
    goes_out.then_some(sent)
}

/// A path does not go back to the peer that it came from.
fn everybody_but(id: StreamId, source: Slot, core: &Core) -> Audience {
    if is_member(id, source, core) { Audience::Except(source) } else { Audience::All }
}

fn is_member(id: StreamId, slot: Slot, core: &Core) -> bool {
    slot != LOCAL
        && core.peers.get(slot).and_then(|peer| peer.out.as_ref()).is_some_and(|out| out.stream == id)
}

/// Who has been told of a prefix and is not told of what takes its place.
fn withdrawal<P>(id: StreamId, delta: &Delta<P>, core: &Core) -> Option<Audience> {
    let before = delta.before?;
    match delta.after {
        None => Some(everybody_but(id, before.source, core)),
        Some(after) if after.source == before.source => None,
        Some(after) => is_member(id, after.source, core).then_some(Audience::Only(after.source)),
    }
}

/// Puts messages with the same audience together.
struct Writer<'a> {
    stream: &'a mut Stream,
    buffer: BytesMut,
    audience: Audience,
}

impl<'a> Writer<'a> {
    fn new(stream: &'a mut Stream) -> Self {
        Self { stream, buffer: BytesMut::new(), audience: Audience::All }
    }

    /// Announces prefixes with one and the same path, of which the filter says the same. Those that cannot be announced have
    /// no `after` then.
    fn announce<P: TablePrefix>(&mut self, id: StreamId, run: &mut [Delta<P>], core: &Core) {
        let Some((first, sent)) = run.first().and_then(|delta| Some((delta.prefix, delta.after?))) else {
            return;
        };
        let attributes = &core.shared.attributes.get(sent.attributes).values;
        let key = Arc::clone(&self.stream.key);
        let out = key.export(core.shared.via(sent.nexthop), attributes, first.into());
        self.turn_to(everybody_but(id, sent.source, core));
        let prefixes: Vec<P> = run.iter().map(|delta| delta.prefix).collect();
        let mut done = 0;
        while let (Some((attributes, nexthop)), true) = (&out, done < prefixes.len()) {
            match encode_reach(attributes, *nexthop, &prefixes[done..], &key.encode, &mut self.buffer) {
                0 => break,
                fit => done += fit,
            }
            self.flush_if_full();
        }
        for delta in &mut run[done..] {
            delta.after = None;
        }
    }

    fn withdraw<P: TablePrefix>(&mut self, audience: Audience, prefixes: &[P]) {
        self.turn_to(audience);
        let key = Arc::clone(&self.stream.key);
        let mut done = 0;
        while done < prefixes.len() {
            match encode_unreach(&prefixes[done..], &key.encode, &mut self.buffer) {
                0 => break,
                fit => done += fit,
            }
            self.flush_if_full();
        }
    }

    fn turn_to(&mut self, audience: Audience) {
        if audience != self.audience {
            self.flush();
            self.audience = audience;
        }
    }

    fn flush_if_full(&mut self) {
        if self.buffer.len() >= CHUNK_LEN {
            self.flush();
        }
    }

    fn flush(&mut self) {
        let read = self.stream.members.iter().any(|&member| self.audience.includes(member));
        if read && !self.buffer.is_empty() {
            // A copy of its exact size: the log may keep it long, and should keep no more than it counts.
            self.stream.push(Bytes::copy_from_slice(&self.buffer), self.audience);
        }
        self.buffer.clear();
    }
}
