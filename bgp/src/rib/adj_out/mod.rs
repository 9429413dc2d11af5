//! Adj-RIB-Out: update groups, and who has read how far.
//!
//! Peers with equal [`GroupKey`]s share a [`Stream`] that encodes once. A new member begins with a stream of its own,
//! at the start of the tables; one that reads too slowly is given one, where it was. Streams of a group become one again
//! when both have come to the end of the tables and have told the same. The first does not imply the second: what a lost
//! peer announced is dead at once, to those who look, and is in the log only when it is swept. So memory is bounded
//! whatever a peer does: per stream a log of [`LOG_LIMIT`] octets and the list of what was sent.

mod sent;
mod stream;

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use foldhash::fast::FixedState;
use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};
use serde::{Deserialize, Serialize};

use super::loc_rib::Core;
use super::peers::{KnownPeer, Membership, Slot, StreamId};
use super::policy::GroupKey;
use super::table::{DestId, Table, TablePrefix};
use crate::types::{AfiSafi, Nexthop};
use crate::wire::PathAttributes;
use sent::SentMap;
use stream::Stream;

/// Encoded octets that wait for the slowest member, before it goes its own way. Small in tests, so that they meet it.
const LOG_LIMIT: usize = if cfg!(test) { 512 } else { 1024 * 1024 };

/// One route that a peer has been told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdvertisedRoute {
    pub prefix: IpNetwork,
    pub nexthop: Nexthop,
    pub attributes: PathAttributes,
}

/// The two tables, which streams follow.
#[derive(Debug)]
pub(super) struct Tables {
    pub(super) v4: Table<Ipv4Network>,
    pub(super) v6: Table<Ipv6Network>,
}

impl Tables {
    fn prefix(&self, family: AfiSafi, dest: DestId) -> IpNetwork {
        match family {
            AfiSafi::Ipv4Unicast => self.v4.dest(dest).prefix.into(),
            AfiSafi::Ipv6Unicast => self.v6.dest(dest).prefix.into(),
        }
    }
}

#[derive(Debug)]
pub(super) struct AdjOut {
    /// `None`: vacant.
    streams: Vec<Option<Stream>>,
    groups: HashMap<Arc<GroupKey>, Vec<StreamId>, FixedState>,
    /// Of streams that ended: their references go back in slices.
    discarded: Vec<(AfiSafi, SentMap)>,
}

impl AdjOut {
    pub(super) fn new(seed: u64) -> Self {
        let groups = HashMap::with_hasher(FixedState::with_seed(seed));
        Self { streams: Vec::new(), groups, discarded: Vec::new() }
    }

    /// A peer that is to be told everything. It shares a stream with others that are just as new.
    pub(super) fn join(&mut self, core: &mut Core, slot: Slot, key: GroupKey) {
        let key = Arc::new(key);
        let fresh = self.groups.get(&key).and_then(|ids| {
            ids.iter().copied().find(|&id| self.stream(id).is_some_and(|stream| !stream.started))
        });
        let id = fresh.unwrap_or_else(|| self.insert(Stream::new(key, self.groups.hasher())));
        self.add_member(core, id, slot);
    }

    pub(super) fn leave(&mut self, core: &mut Core, slot: Slot) {
        let Some(membership) = core.peers.get_mut(slot).and_then(|peer| peer.out.take()) else { return };
        let Some(stream) = self.stream_mut(membership.stream) else { return };
        stream.members.retain(|&member| member != slot);
        let unread = membership.position.saturating_sub(stream.log_start);
        for chunk in stream.log.iter_mut().skip(usize::try_from(unread).unwrap_or(usize::MAX)) {
            chunk.readers -= 1;
        }
        stream.trim();
        if stream.members.is_empty() {
            self.discard(membership.stream);
        }
    }

    /// The next messages for a peer, unless `hold` or there is nothing to say.
    pub(super) fn poll(
        &mut self,
        tables: &mut Tables,
        core: &mut Core,
        slot: Slot,
        hold: bool,
    ) -> Option<Bytes> {
        loop {
            let Membership { stream: id, position } = core.peers.get(slot)?.out?;
            let stream = self.stream_mut(id)?;
            if position < stream.log_end() {
                let bytes = stream.take(position, slot);
                core.peers.get_mut(slot)?.out = Some(Membership { stream: id, position: position + 1 });
                if bytes.is_some() {
                    return bytes;
                }
            } else if hold {
                return None;
            } else if stream.is_current(tables) {
                self.rejoin(tables, core, id);
                return None;
            } else if stream.log_len >= LOG_LIMIT {
                self.part_with_laggards(tables, core, id);
            } else {
                stream.fill_next(id, tables, core);
            }
        }
    }

    /// Members of the streams that have something to say, as far as some member has room for it. The changes are looked
    /// through until there is something: one that concerns nobody costs a look per stream, not one per member.
    pub(super) fn unadvertised(
        &mut self,
        tables: &mut Tables,
        core: &mut Core,
        has_room: impl Fn(&KnownPeer) -> bool,
    ) -> Vec<Slot> {
        let mut slots = Vec::new();
        for id in 0..self.ids() {
            let Some(stream) = self.stream_mut(id) else { continue };
            if stream.members.iter().any(|member| core.peers.get(*member).is_some_and(&has_room)) {
                while stream.log.is_empty() && !stream.is_current(tables) {
                    stream.fill_next(id, tables, core);
                }
            }
            if !stream.log.is_empty() {
                slots.extend(&stream.members);
            } else if stream.is_current(tables) {
                self.rejoin(tables, core, id);
            }
        }
        slots
    }

    /// All of a family once more for this peer, whatever it has been told.
    pub(super) fn restart(&mut self, tables: &mut Tables, core: &mut Core, slot: Slot, family: AfiSafi) {
        let Some(id) = self.isolate(tables, core, slot) else { return };
        let Some(stream) = self.stream_mut(id) else { return };
        stream.restart(family, core);
    }

    /// Other rules for this peer, by which it is told the difference.
    pub(super) fn rekey(&mut self, tables: &mut Tables, core: &mut Core, slot: Slot, key: GroupKey) {
        let Some(id) = self.isolate(tables, core, slot) else { return };
        let Some(mut stream) = self.remove(id) else { return };
        stream.adopt(key, tables, core);
        let renewed = self.insert(stream);
        if let Some(out) = core.peers.get_mut(slot).and_then(|peer| peer.out.as_mut()) {
            out.stream = renewed;
        }
    }

    /// Gives back the references of ended streams, a page's worth per unit of `limit`. True while more remain.
    pub(super) fn sweep(&mut self, tables: &mut Tables, core: &mut Core, limit: usize) -> bool {
        for _ in 0..limit {
            let Some((family, sent)) = self.discarded.last_mut() else { return false };
            let Some(page) = sent.pop_page() else {
                self.discarded.pop();
                continue;
            };
            for (dest, sent) in page {
                core.shared.release((sent.attributes, sent.nexthop));
                match family {
                    AfiSafi::Ipv4Unicast => tables.v4.unpin(dest),
                    AfiSafi::Ipv6Unicast => tables.v6.unpin(dest),
                }
            }
        }
        !self.discarded.is_empty()
    }

    pub(super) fn wants_sweep(&self) -> bool {
        !self.discarded.is_empty()
    }

    /// All cursors into the change log of a family.
    pub(super) fn cursors(&mut self, family: AfiSafi) -> impl Iterator<Item = &mut u32> {
        self.streams.iter_mut().flatten().map(move |stream| &mut stream.families[family.index()].cursor)
    }

    pub(super) fn count(&self, core: &Core, slot: Slot, family: AfiSafi) -> u32 {
        let stream = core.peers.get(slot).and_then(|peer| self.stream(peer.out?.stream));
        stream.map_or(0, |stream| stream.families[family.index()].sent.count_for(slot))
    }

    /// What a peer has been told of a family, in order of prefix.
    pub(super) fn advertised<P: TablePrefix>(
        &self,
        table: &Table<P>,
        core: &Core,
        slot: Slot,
    ) -> Vec<AdvertisedRoute> {
        let stream = core.peers.get(slot).and_then(|peer| self.stream(peer.out?.stream));
        let Some(stream) = stream else { return Vec::new() };
        let told =
            stream.families[Table::<P>::FAMILY.index()].sent.iter().filter(|(_, sent)| sent.source != slot);
        let mut routes: Vec<AdvertisedRoute> = told
            .filter_map(|(dest, sent)| {
                // Being told once more: it is the present path that counts.
                let sent = if sent.attributes.is_none() {
                    stream::exported(&stream.key, table, core, dest)?
                } else {
                    sent
                };
                let attributes = &core.shared.attributes.get(sent.attributes).values;
                let via = core.shared.via(sent.nexthop);
                let prefix = table.dest(dest).prefix.into();
                let (attributes, nexthop) = stream.key.export(via, attributes, prefix)?;
                Some(AdvertisedRoute { prefix, nexthop, attributes })
            })
            .collect();
        routes.sort_by_key(|route| route.prefix);
        routes
    }

    /// Streams and members, for tests of their life. Each has counted right what its log takes.
    #[cfg(test)]
    pub(super) fn census(&self) -> Vec<usize> {
        let members = |stream: &Stream| {
            let taken = stream.log.iter().map(|chunk| chunk.bytes.len() + size_of_val(chunk)).sum::<usize>();
            assert_eq!(stream.log_len, taken);
            stream.members.len()
        };
        self.streams.iter().flatten().map(members).collect()
    }

    /// When the stream and another of its group have nothing left to say and have told the same, its members go over
    /// there.
    fn rejoin(&mut self, tables: &mut Tables, core: &mut Core, id: StreamId) {
        let Some(stream) = self.stream(id) else { return };
        let Some(group) = self.groups.get(&stream.key) else { return };
        if group.len() < 2 || !stream.log.is_empty() {
            return;
        }
        let equal = |other: &Stream| other.is_current(tables) && other.advertises_the_same_as(stream);
        let mut others = group.iter().copied().filter(|&other| other != id);
        let Some(target) = others.find(|&other| self.stream(other).is_some_and(equal)) else { return };
        let members = self.stream(id).map_or_else(Vec::new, |stream| stream.members.clone());
        self.discard(id);
        for member in members {
            self.add_member(core, target, member);
        }
    }

    /// The members that hold the log up go on in a stream of their own.
    fn part_with_laggards(&mut self, tables: &mut Tables, core: &mut Core, id: StreamId) {
        let Some(stream) = self.stream(id) else { return };
        let end = stream.log_end();
        let lags = |slot: &Slot| {
            core.peers.get(*slot).and_then(|peer| peer.out).is_some_and(|out| out.position < end)
        };
        let laggards = stream.members.iter().copied().filter(lags).collect();
        self.split(tables, core, id, laggards);
    }

    /// A stream with this member alone, with all that it has yet to take.
    fn isolate(&mut self, tables: &mut Tables, core: &mut Core, slot: Slot) -> Option<StreamId> {
        let id = core.peers.get(slot)?.out?.stream;
        if self.stream(id)?.members.len() > 1 {
            return self.split(tables, core, id, vec![slot]);
        }
        Some(id)
    }

    /// Moves some members of a stream, which keep their positions, to a copy of it.
    fn split(
        &mut self,
        tables: &mut Tables,
        core: &mut Core,
        id: StreamId,
        leavers: Vec<Slot>,
    ) -> Option<StreamId> {
        let stream = self.stream_mut(id)?;
        stream.members.retain(|member| !leavers.contains(member));
        let mut copy = Stream {
            key: Arc::clone(&stream.key),
            members: leavers,
            families: stream.families.clone(),
            log: stream.log.clone(),
            log_start: stream.log_start,
            log_len: stream.log_len,
            started: stream.started,
        };
        stream.recount_readers(core);
        copy.recount_readers(core);
        for (_, sent) in copy.families.iter().flat_map(|family| family.sent.iter()) {
            core.shared.retain((sent.attributes, sent.nexthop));
        }
        let [v4, v6] = &copy.families;
        v4.sent.iter().for_each(|(dest, _)| tables.v4.pin(dest));
        v6.sent.iter().for_each(|(dest, _)| tables.v6.pin(dest));
        let members = copy.members.clone();
        let new = self.insert(copy);
        for member in members {
            if let Some(out) = core.peers.get_mut(member).and_then(|peer| peer.out.as_mut()) {
                out.stream = new;
            }
        }
        Some(new)
    }

    fn add_member(&mut self, core: &mut Core, id: StreamId, slot: Slot) {
        let Some(stream) = self.stream_mut(id) else { return };
        stream.members.push(slot);
        let position = stream.log_end();
        if let Some(peer) = core.peers.get_mut(slot) {
            peer.out = Some(Membership { stream: id, position });
        }
    }

    fn discard(&mut self, id: StreamId) {
        let Some(stream) = self.remove(id) else { return };
        self.discarded.extend(AfiSafi::ALL.into_iter().zip(stream.families.map(|family| family.sent)));
    }

    fn insert(&mut self, stream: Stream) -> StreamId {
        let free = self.streams.iter().position(Option::is_none);
        let at = free.unwrap_or(self.streams.len());
        let id = free.map_or(self.ids(), stream_id);
        self.groups.entry(Arc::clone(&stream.key)).or_default().push(id);
        if at == self.streams.len() {
            self.streams.push(None);
        }
        self.streams[at] = Some(stream);
        id
    }

    /// All are smaller.
    fn ids(&self) -> StreamId {
        stream_id(self.streams.len())
    }

    fn remove(&mut self, id: StreamId) -> Option<Stream> {
        let stream = self.streams.get_mut(id as usize)?.take()?;
        if let Some(group) = self.groups.get_mut(&stream.key) {
            group.retain(|&member| member != id);
            if group.is_empty() {
                self.groups.remove(&stream.key);
            }
        }
        Some(stream)
    }

    fn stream(&self, id: StreamId) -> Option<&Stream> {
        self.streams.get(id as usize)?.as_ref()
    }

    fn stream_mut(&mut self, id: StreamId) -> Option<&mut Stream> {
        self.streams.get_mut(id as usize)?.as_mut()
    }
}

fn stream_id(at: usize) -> StreamId {
    StreamId::try_from(at).expect("a stream has a member, whose slot is smaller than a stream's id")
}

impl Stream {
    /// Nothing is left to encode.
    fn is_current(&self, tables: &Tables) -> bool {
        self.key.families.iter().all(|&family| self.is_current_in(tables, family))
    }

    fn is_current_in(&self, tables: &Tables, family: AfiSafi) -> bool {
        let end = match family {
            AfiSafi::Ipv4Unicast => tables.v4.end(),
            AfiSafi::Ipv6Unicast => tables.v6.end(),
        };
        let out = &self.families[family.index()];
        out.cursor >= end && !out.end_of_rib_due
    }

    fn fill_next(&mut self, id: StreamId, tables: &mut Tables, core: &mut Core) {
        let behind = self.key.families.iter().copied().find(|&family| !self.is_current_in(tables, family));
        match behind {
            Some(AfiSafi::Ipv4Unicast) => self.fill(id, &mut tables.v4, core),
            Some(AfiSafi::Ipv6Unicast) => self.fill(id, &mut tables.v6, core),
            None => {}
        }
    }

    fn recount_readers(&mut self, core: &Core) {
        self.log.iter_mut().for_each(|chunk| chunk.readers = 0);
        for out in self.members.iter().filter_map(|&member| core.peers.get(member)?.out) {
            let taken = usize::try_from(out.position - self.log_start).unwrap_or(usize::MAX);
            self.log.iter_mut().skip(taken).for_each(|chunk| chunk.readers += 1);
        }
        self.trim();
    }
}
