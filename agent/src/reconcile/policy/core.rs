//! One commit: compile, compare with what the kernel holds, send the difference, cut what is now forbidden. Blocking.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use tracing::warn;
use weft_api::control::PolicyStatus;
use weft_policy::compile::{Options, compile};
use weft_policy::model::{LocalPod, World};
use weft_policy::nft::{Change, Dump, Transaction};
use weft_policy::ruleset::{KeyField, Ruleset, Value};

use super::revoke;
use crate::kernel::conntrack::Conntrack;
use crate::kernel::nft::{NftError, NftMonitor, NftTable};
use crate::watch::Problem;

pub(super) struct Core {
    table: NftTable,
    conntrack: Option<Conntrack>,
    /// What the table held when it was read; `None` once `have` is known.
    found: Option<Dump>,
    have: Ruleset,
    options: Options,
}

pub(super) struct Committed {
    pub(super) changes: usize,
    pub(super) revoked: u64,
    pub(super) took: Duration,
    pub(super) counts: PolicyStatus,
    pub(super) problems: BTreeSet<Problem>,
}

impl Core {
    pub(super) fn open() -> Result<Self, NftError> {
        let (table, found) = NftTable::open()?;
        let conntrack = Conntrack::open().inspect_err(|error| {
            warn!(reconciler = "policy", %error, "established flows cannot be revoked");
        });
        let (conntrack, have, options) = (conntrack.ok(), Ruleset::default(), Options::default());
        Ok(Self { table, conntrack, found: Some(found), have, options })
    }

    pub(super) fn monitor(&self) -> Result<NftMonitor, NftError> {
        Ok(NftMonitor::open(&self.table)?)
    }

    /// With `audit` the kernel is asked what it holds; else we know. With `judge` established flows are judged anew.
    /// The flows of `freed` addresses are forgotten.
    pub(super) fn commit(
        &mut self,
        world: &World,
        local: &[LocalPod],
        audit: bool,
        judge: bool,
        freed: &BTreeSet<IpAddr>,
    ) -> Result<Committed, NftError> {
        let begun = Instant::now();
        let compiled = compile(world, local, &self.options);
        if audit {
            self.found = Some(self.table.resync()?);
        }
        if let Some(found) = self.found.take() {
            self.have = found.recognise(&compiled.ruleset);
        }
        let transaction = Transaction::diff(&compiled.ruleset, &self.have);
        let changes = transaction.changes().len();
        if !transaction.is_empty() {
            self.table.commit(&transaction)?;
        }
        let took = begun.elapsed();
        let counts = counts(&compiled.ruleset);
        self.have = compiled.ruleset;
        let problems = compiled.problems.into_iter().map(|problem| Problem {
            object: problem.object,
            reason: format!("{}: {}", problem.field, problem.reason),
        });
        let problems = problems.collect();
        self.hand_over(&opened_udp_ports(&transaction));
        let revoked = self.cut(world, local, freed, judge && changes > 0);
        Ok(Committed { changes, revoked, took, counts, problems })
    }

    /// Datagrams that were not translated when their flow began are from the next on.
    fn hand_over(&mut self, ports: &BTreeSet<u16>) {
        let Some(conntrack) = self.conntrack.as_mut().filter(|_| !ports.is_empty()) else { return };
        if let Err(error) = conntrack.delete_untranslated_udp(ports) {
            warn!(reconciler = "policy", %error, "flows to new host ports not forgotten");
        }
    }

    /// After the rules: what they forbid must not live on in the fast path for established flows.
    fn cut(&mut self, world: &World, local: &[LocalPod], freed: &BTreeSet<IpAddr>, judge: bool) -> u64 {
        let Some(conntrack) = &mut self.conntrack else { return 0 };
        if !freed.is_empty()
            && let Err(error) = conntrack.delete_flows_of(freed)
        {
            warn!(reconciler = "policy", ?freed, %error, "flows of gone pods not forgotten");
        }
        if !judge || local.is_empty() {
            return 0;
        }
        revoke::run(conntrack, world, local, self.options.revoked_mark).unwrap_or_else(|error| {
            warn!(reconciler = "policy", %error, "established flows not checked");
            0
        })
    }
}

/// The host ports that it gives to a pod.
fn opened_udp_ports(transaction: &Transaction) -> BTreeSet<u16> {
    let entries = transaction.changes().iter().filter_map(|change| match change {
        Change::AddMapElements { entries, .. } => Some(entries),
        _ => None,
    });
    let port = |(key, value): &(Vec<KeyField>, Value)| match (&key[..], value) {
        ([.., KeyField::Proto(17), KeyField::Port(port)], Value::Endpoint(..)) => Some(*port),
        _ => None,
    };
    entries.flatten().filter_map(port).collect()
}

fn counts(ruleset: &Ruleset) -> PolicyStatus {
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let elements = ruleset.sets.values().map(|set| set.elements.len()).sum::<usize>()
        + ruleset.maps.values().map(|map| map.elements.len()).sum::<usize>();
    PolicyStatus {
        revision: 0,
        policies: 0,
        chains: count(ruleset.chains.len()),
        sets: count(ruleset.sets.len() + ruleset.maps.len()),
        set_elements: count(elements),
    }
}
