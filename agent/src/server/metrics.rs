//! The metrics page. Gathered when asked for, so that no number lives in two places.

use std::sync::atomic::{AtomicI64, AtomicU64};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::time::Instant;
use weft_api::control::{BfdState, SessionState};

use super::bgp;
use super::control::collect_status;
use crate::agent::Agent;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct PeerLabels {
    peer: String,
    address: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct PeerRouteLabels {
    peer: String,
    family: String,
    state: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct MessageLabels {
    peer: String,
    direction: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct DropLabels {
    peer: String,
    reason: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct FamilyLabels {
    family: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct PoolLabels {
    pool: String,
    state: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct WatchLabels {
    kind: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct BuildLabels {
    version: &'static str,
}

/// OpenMetrics text.
pub(super) async fn render(agent: &Agent) -> String {
    let mut page = Page(Registry::with_prefix("weft"));
    page.node(agent).await;
    page.peers(agent).await;
    page.bfd(agent).await;
    page.policy(agent);
    page.ipam(agent);
    let mut text = String::new();
    encode(&mut text, &page.0).expect("a String takes all that is written to it");
    text
}

struct Page(Registry);

impl Page {
    fn gauge(&mut self, name: &str, help: &str, value: u64) {
        let gauge = Gauge::<i64, AtomicI64>::default();
        gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        self.0.register(name, help, gauge);
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        let counter = Counter::<u64, AtomicU64>::default();
        counter.inc_by(value);
        self.0.register(name, help, counter);
    }

    async fn node(&mut self, agent: &Agent) {
        let status = collect_status(agent).await;
        let build: Family<BuildLabels, Gauge> = Family::default();
        build.get_or_create(&BuildLabels { version: env!("CARGO_PKG_VERSION") }).set(1);
        self.0.register("build", "The version that runs", build);
        self.gauge("ready", "Routes and policy are in the kernel", status.ready.into());
        self.gauge("uptime_seconds", "Since the agent started", status.uptime_seconds);
        self.gauge("pods", "Pods wired to this node", status.pods.into());
        self.gauge("problems", "Objects that do not act as written", status.problems.len() as u64);
        self.gauge("remembered", "BGP runs on what is remembered", agent.runs_on().is_some().into());
        let routes: Family<FamilyLabels, Gauge> = Family::default();
        for (family, count) in status.kernel_routes {
            routes.get_or_create(&FamilyLabels { family }).set(count.into());
        }
        self.0.register("routes", "Kernel routes of ours", routes);
        let ages: Family<WatchLabels, Gauge> = Family::default();
        for (kind, age) in agent.heard.ages(Instant::now()) {
            let seconds = i64::try_from(age.as_secs()).unwrap_or(i64::MAX);
            ages.get_or_create(&WatchLabels { kind: kind.to_string() }).set(seconds);
        }
        self.0.register("watch_age_seconds", "Since the API server was last heard from", ages);
        let drift = agent.routes.status().borrow().drift;
        self.counter("route_drift", "Times that somebody else changed our routes", drift);
    }

    async fn peers(&mut self, agent: &Agent) {
        let (up, routes, messages, established, malformed) = (
            Family::<PeerLabels, Gauge>::default(),
            Family::<PeerRouteLabels, Gauge>::default(),
            Family::<MessageLabels, Counter>::default(),
            Family::<PeerLabels, Counter>::default(),
            Family::<PeerLabels, Counter>::default(),
        );
        // A peer that is planned is shown as down while no speaker knows it: alerts need its series.
        let planned = agent.desired.borrow().clone();
        for peer in planned.iter().flat_map(|desired| &desired.peers) {
            let labels = PeerLabels { peer: peer.name.clone(), address: peer.key.address.to_string() };
            up.get_or_create(&labels).set(0);
        }
        for peer in bgp::peers(agent).await.unwrap_or_default() {
            let labels = PeerLabels { peer: peer.name.clone(), address: peer.address.to_string() };
            up.get_or_create(&labels).set((peer.state == SessionState::Established).into());
            established.get_or_create(&labels).inc_by(peer.established_count);
            malformed.get_or_create(&labels).inc_by(peer.malformed_attributes);
            for (direction, count) in [("in", peer.messages_in), ("out", peer.messages_out)] {
                messages.get_or_create(&MessageLabels { peer: peer.name.clone(), direction }).inc_by(count);
            }
            for family in &peer.families {
                let counts = [
                    ("accepted", family.accepted),
                    ("rejected", family.rejected),
                    ("advertised", family.advertised),
                    ("stale", family.stale),
                ];
                for (state, count) in counts {
                    let labels =
                        PeerRouteLabels { peer: peer.name.clone(), family: family.family.clone(), state };
                    routes.get_or_create(&labels).set(i64::try_from(count).unwrap_or(i64::MAX));
                }
            }
        }
        self.0.register("bgp_peer_up", "The session is established", up);
        self.0.register("bgp_peer_routes", "Routes of the session", routes);
        self.0.register("bgp_peer_messages", "BGP messages", messages);
        self.0.register("bgp_peer_established", "Times that the session was established", established);
        self.0.register(
            "bgp_peer_malformed_attributes",
            "Attributes that were wrong in a way that the session survives",
            malformed,
        );
    }

    async fn bfd(&mut self, agent: &Agent) {
        let (up, ups, failures, detection, packets, drops) = (
            Family::<PeerLabels, Gauge>::default(),
            Family::<PeerLabels, Counter>::default(),
            Family::<PeerLabels, Counter>::default(),
            Family::<PeerLabels, Gauge>::default(),
            Family::<MessageLabels, Counter>::default(),
            Family::<DropLabels, Counter>::default(),
        );
        for peer in bgp::peers(agent).await.unwrap_or_default() {
            let Some(bfd) = peer.bfd else { continue };
            let labels = PeerLabels { peer: peer.name.clone(), address: peer.address.to_string() };
            up.get_or_create(&labels).set((bfd.state == BfdState::Up).into());
            ups.get_or_create(&labels).inc_by(bfd.up_count);
            failures.get_or_create(&labels).inc_by(bfd.failed_count);
            if let Some(millis) = bfd.detection_time {
                detection.get_or_create(&labels).set(i64::try_from(millis).unwrap_or(i64::MAX));
            }
            for (direction, count) in [("in", bfd.packets_in), ("out", bfd.packets_out)] {
                packets.get_or_create(&MessageLabels { peer: peer.name.clone(), direction }).inc_by(count);
            }
            for (reason, count) in bfd.drops {
                drops.get_or_create(&DropLabels { peer: peer.name.clone(), reason }).inc_by(count);
            }
        }
        self.0.register("bfd_peer_up", "The path to the peer is watched, and there", up);
        self.0.register("bfd_peer_ups", "Times that the session came up", ups);
        self.0.register("bfd_peer_failures", "Times that the path was gone", failures);
        self.0.register(
            "bfd_peer_detection_milliseconds",
            "Silence after which the peer is given up",
            detection,
        );
        self.0.register("bfd_peer_packets", "Packets of BFD", packets);
        self.0.register("bfd_peer_refused_packets", "Packets of the peer that were refused", drops);
        let strangers = super::bfd::report(agent).await.strangers;
        self.counter("bfd_stranger_packets", "Packets from addresses that are not watched", strangers);
    }

    fn policy(&mut self, agent: &Agent) {
        let state = agent.policy.state().borrow().clone();
        self.counter(
            "policy_commits",
            "Changes of the nftables table that the kernel acknowledged",
            state.counts.revision,
        );
        self.counter("policy_drift", "Times that somebody else changed our table", state.drift);
        self.counter("policy_revoked_flows", "Established flows cut by a change of policy", state.revoked);
        self.counter(
            "policy_flow_scans",
            "Times that all established flows were judged by the policy in force",
            state.judged,
        );
        self.counter(
            "policy_flow_failures",
            "Attempts to judge or forget established flows that failed and are repeated",
            state.flow_failures,
        );
        self.gauge("policies", "Network policies of the cluster", state.counts.policies.into());
        self.gauge("policy_chains", "Chains of the table", state.counts.chains.into());
        self.gauge("policy_sets", "Sets and maps of the table", state.counts.sets.into());
        self.gauge(
            "policy_set_elements",
            "Elements of the table's sets and maps",
            state.counts.set_elements.into(),
        );
        let micros = u64::try_from(state.last_commit.as_micros()).unwrap_or(u64::MAX);
        self.gauge("policy_last_commit_microseconds", "From event to acknowledgement, the last time", micros);
    }

    fn ipam(&mut self, agent: &Agent) {
        let Some(cni) = agent.cni.borrow().clone() else { return };
        let addresses = Family::<PoolLabels, Gauge>::default();
        for pool in cni.ipam().pools {
            let counts = [
                ("used", pool.used),
                ("free", pool.free),
                ("cooling", pool.cooling),
                ("reserved", pool.reserved),
            ];
            for (state, count) in counts {
                let labels = PoolLabels { pool: pool.cidr.clone(), state };
                addresses.get_or_create(&labels).set(i64::try_from(count).unwrap_or(i64::MAX));
            }
        }
        self.0.register("ipam_addresses", "Addresses of the node's pools", addresses);
    }
}
