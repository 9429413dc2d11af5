//! Established flows that policy no longer allows are cut, and those that it allows again are let go on.
//!
//! In: the flows of this node's pods. Out: the mark bit on those that a rule of this node would stop. The judge is the
//! evaluator that reads the raw policies, not the compiled rules.

use std::collections::BTreeSet;
use std::net::IpAddr;

use tracing::debug;
use weft_policy::eval::{Flow as Question, evaluate};
use weft_policy::model::{LocalPod, World};

use crate::kernel::conntrack::{Conntrack, ConntrackError, Flow};

/// Returns how many were cut.
pub(super) fn run(
    conntrack: &mut Conntrack,
    world: &World,
    local: &[LocalPod],
    bit: u32,
) -> Result<u64, ConntrackError> {
    let addresses: BTreeSet<IpAddr> = local.iter().flat_map(|pod| pod.ips.iter().copied()).collect();
    let mut cut = 0;
    for flow in conntrack.flows(&addresses)? {
        let (marked, forbidden) = (flow.mark & bit != 0, is_forbidden(world, local, &flow));
        if marked != forbidden {
            conntrack.set_mark_bit(&flow, bit, forbidden)?;
            let (source, destination) = (flow.original.source, flow.reply.source);
            debug!(reconciler = "policy", %source, %destination, protocol = flow.protocol, forbidden, "flow judged anew");
            cut += u64::from(forbidden);
        }
    }
    Ok(cut)
}

/// By a half of the policy that this node enforces. The forward hook sees a flow between translation of its
/// destination and that of its source: the original source, and the source of the answers.
fn is_forbidden(world: &World, local: &[LocalPod], flow: &Flow) -> bool {
    const WITH_PORTS: [u8; 3] = [6, 17, 132];
    let question = Question {
        source: flow.original.source,
        destination: flow.reply.source,
        protocol: flow.protocol,
        port: WITH_PORTS.contains(&flow.protocol).then_some(flow.reply.source_port),
    };
    let judgement = evaluate(world, local, &question);
    [judgement.egress, judgement.ingress].iter().any(|half| half.enforced_here && !half.allowed())
}
