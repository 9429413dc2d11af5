//! A pod under default-deny leaks no first packet, in or out, although both sides send from before its link exists.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Result;
use weft_e2e::lab::{LabSpec, OUTSIDE, Plan};
use weft_e2e::net::{Namespace, Sniffer};
use weft_e2e::wait;

use crate::story::{CONVERGED, PORT, SOON, cluster, reaches, server};

const DENY_ALL: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { namespace: vault, name: deny-all }
spec:
  podSelector: {}
  policyTypes: [Ingress, Egress]
";

const ALLOW_ALL: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { namespace: vault, name: allow-all }
spec:
  podSelector: {}
  policyTypes: [Ingress, Egress]
  ingress: [{}]
  egress: [{}]
";

#[test]
fn nothing_passes_between_the_first_link_up_and_the_policy() {
    let lab = cluster("first-packet", &LabSpec::racks(["bird:1", "frr:1"]));
    lab.namespace_object("vault").unwrap();
    lab.store().apply(DENY_ALL).unwrap();
    let before = server(&lab, "default/before", "node1", &[]);
    let outside = lab.namespace(OUTSIDE).unwrap();
    // Routes to node1's pods are everywhere, so whoever sends to a future address of its range gets as far as node1.
    reaches(&outside, &before);
    let other = server(&lab, "default/other", "node2", &[]);
    reaches(before.namespace(), &other);

    let sandbox = lab.sandbox("vault/secret", "node1", &[]).unwrap();
    let (on_the_pod, on_the_outside, on_the_other) =
        (sniff(sandbox.namespace()), sniff(&outside), sniff(other.namespace()));
    let targets = [Plan::outside().both(), [other.ip(false), other.ip(true)]].concat();
    let from_inside = Sender::start(sandbox.namespace(), targets).unwrap();
    let from_outside = Sender::start(&outside, future_addresses(before.addresses())).unwrap();
    let from_the_node = Sender::start(other.namespace(), future_addresses(before.addresses())).unwrap();
    for sender in [&from_inside, &from_outside, &from_the_node] {
        sender.until_more();
    }

    let pod = sandbox.add().unwrap();
    for sender in [&from_inside, &from_outside, &from_the_node] {
        sender.until_more();
    }

    let of_the_pod = |ip: &IpAddr| pod.addresses().contains(ip);
    assert_eq!(on_the_pod.seen(|packet| !packet.outgoing && of_the_pod(&packet.to)), []);
    assert_eq!(on_the_outside.seen(|packet| of_the_pod(&packet.from)), []);
    assert_eq!(on_the_other.seen(|packet| of_the_pod(&packet.from)), []);

    // The same wires, once it is allowed: so the silence was the policy's.
    lab.store().apply(ALLOW_ALL).unwrap();
    for ip in pod.addresses() {
        for sniffer in [&on_the_outside, &on_the_other] {
            wait::until_true("packets of the pod", SOON, || {
                !sniffer.seen(|packet| packet.from == *ip).is_empty()
            })
            .unwrap();
        }
        wait::until_true("packets to the pod", SOON, || {
            !on_the_pod.seen(|packet| !packet.outgoing && packet.to == *ip).is_empty()
        })
        .unwrap();
    }
}

fn sniff(namespace: &Namespace) -> Sniffer {
    Sniffer::start(namespace).unwrap()
}

/// The next 16 addresses of each family: one of them will be the pod's.
fn future_addresses(used: &[IpAddr]) -> Vec<IpAddr> {
    used.iter()
        .flat_map(|ip| {
            (1..=16).map(move |step| match ip {
                IpAddr::V4(ip) => IpAddr::from((u32::from(*ip) + step).to_be_bytes()),
                IpAddr::V6(ip) => IpAddr::from((u128::from(*ip) + u128::from(step)).to_be_bytes()),
            })
        })
        .collect()
}

/// Sends a datagram to each target, again and again, whether or not that is possible yet.
struct Sender {
    rounds: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Sender {
    fn start(namespace: &Namespace, targets: Vec<IpAddr>) -> Result<Self> {
        let (v4, v6) = namespace.enter(|| Ok((UdpSocket::bind("0.0.0.0:0")?, UdpSocket::bind("[::]:0")?)))?;
        let (rounds, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, stopping) = (Arc::clone(&rounds), Arc::clone(&stop));
        let thread = namespace.spawn(move || {
            while !stopping.load(Ordering::Relaxed) {
                for target in &targets {
                    let socket = if target.is_ipv4() { &v4 } else { &v6 };
                    // Unreachable until the link is there: that is the point.
                    let _ = socket.send_to(b"first", SocketAddr::new(*target, PORT));
                }
                count.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(Duration::from_micros(500));
            }
        });
        Ok(Self { rounds, stop, thread: Some(thread) })
    }

    /// Every target has been sent to 100 times more.
    fn until_more(&self) {
        let enough = self.rounds.load(Ordering::Relaxed) + 100;
        wait::until_true("more datagrams", CONVERGED, || self.rounds.load(Ordering::Relaxed) >= enough)
            .unwrap();
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
