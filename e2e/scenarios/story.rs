//! What every scenario begins with: a lab of its own, and pods that answer.

use std::net::{IpAddr, SocketAddr};
use std::ops::Deref;
use std::path::Path;
use std::time::Duration;

use weft_e2e::lab::{Lab, LabSpec, OUTSIDE, Pod, Programs, RouterKind};
use weft_e2e::net::{EchoServer, Flow, Namespace, Proto, until_closed, until_open};
use weft_e2e::wait;

pub(crate) const PORT: u16 = 8080;

/// For what takes effect at once, on a machine that is busy with other scenarios.
pub(crate) const SOON: Duration = Duration::from_secs(5);
/// For what needs a BGP session first.
pub(crate) const CONVERGED: Duration = Duration::from_secs(25);

/// Nobody reaches pods with the label `app: closed`.
const DENY: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { namespace: default, name: deny }
spec:
  podSelector: { matchLabels: { app: closed } }
  policyTypes: [Ingress]
";

pub(crate) fn programs() -> Programs {
    Programs::beside(Path::new(env!("CARGO_BIN_EXE_weft-e2e"))).unwrap()
}

/// Routers run, agents do not.
pub(crate) fn raise(story: &str, spec: &LabSpec) -> Lab {
    Lab::raise(&format!("{story}-{}", std::process::id()), spec, &programs()).unwrap()
}

/// Routers and agents run.
pub(crate) fn cluster(story: &str, spec: &LabSpec) -> Lab {
    let lab = raise(story, spec);
    lab.start_agents().unwrap();
    lab
}

/// A pod with an echo server on [`PORT`].
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) pod: Pod,
    _echo: EchoServer,
}

impl Deref for Server {
    type Target = Pod;

    fn deref(&self) -> &Pod {
        &self.pod
    }
}

pub(crate) fn server(lab: &Lab, key: &str, node: &str, labels: &[(&str, &str)]) -> Server {
    let pod = lab.run_pod(key, node, labels).unwrap();
    let echo = EchoServer::start(pod.namespace(), PORT).unwrap();
    Server { pod, _echo: echo }
}

/// Two racks, one behind BIRD and one behind FRR, with a node each; `a` is in the first, `b` in the second, and both answer
/// to everybody. `closed` is beside `a`, and a policy lets nobody in.
#[derive(Debug)]
pub(crate) struct TwoRacks {
    pub(crate) lab: Lab,
    pub(crate) outside: Namespace,
    pub(crate) a: Server,
    pub(crate) b: Server,
    pub(crate) closed: Server,
}

pub(crate) fn two_racks(story: &str) -> TwoRacks {
    let lab = cluster(story, &LabSpec::racks(["bird:1", "frr:1"]));
    let (a, b) = (server(&lab, "default/a", "node1", &[]), server(&lab, "default/b", "node2", &[]));
    let closed = server(&lab, "default/closed", "node1", &[("app", "closed")]);
    let outside = lab.namespace(OUTSIDE).unwrap();
    lab.store().apply(DENY).unwrap();
    reaches(a.namespace(), &b);
    reaches(&outside, &a);
    reaches(&outside, &b);
    cut_off(&outside, &closed);
    TwoRacks { lab, outside, a, b, closed }
}

pub(crate) fn at(ip: IpAddr) -> SocketAddr {
    SocketAddr::new(ip, PORT)
}

/// TCP and UDP get through in both families.
#[track_caller]
pub(crate) fn reaches(from: &Namespace, to: &Pod) {
    for ip in to.addresses() {
        until_open(from, at(*ip), CONVERGED).unwrap();
    }
}

/// Neither TCP nor UDP gets through in either family.
#[track_caller]
pub(crate) fn cut_off(from: &Namespace, to: &Pod) {
    for ip in to.addresses() {
        until_closed(from, at(*ip), SOON).unwrap();
    }
}

/// By TCP and UDP, in both families.
pub(crate) fn flows(from: &Namespace, to: &Pod, rate: u32) -> impl Iterator<Item = Flow> {
    let targets =
        Proto::ALL.into_iter().flat_map(|proto| to.addresses().iter().map(move |ip| (proto, at(*ip))));
    targets.map(move |(proto, target)| Flow::start(from, proto, target, rate).unwrap())
}

/// Traffic goes on: a second's worth of echoes arrives on every flow.
pub(crate) fn until_more_echoes(flows: &[Flow], rate: u32) {
    for flow in flows {
        let enough = flow.echoed() + u64::from(rate);
        wait::until_true("more echoes", CONVERGED, || flow.echoed() >= enough).unwrap();
    }
}

/// As the router says it: one session per family with the spine and with each of its nodes.
pub(crate) fn until_sessions_are_up(lab: &Lab, tor: &str) {
    let (question, up) = match lab.tor(tor).unwrap().kind {
        RouterKind::Bird => ("show protocols", "Established"),
        RouterKind::Frr => ("show bgp neighbors", "BGP state = Established"),
    };
    let uplinks = lab.plan().nodes.iter().flat_map(|node| &node.uplinks);
    let sessions = 2 + 2 * uplinks.filter(|uplink| uplink.tor == tor).count();
    wait::until_true(&format!("sessions of {tor}"), CONVERGED, || {
        lab.ask(tor, question).is_ok_and(|answer| answer.matches(up).count() == sessions)
    })
    .unwrap();
}
