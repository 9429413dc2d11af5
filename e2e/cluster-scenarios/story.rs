//! What the stories share: namespaces, pods that answer, services, and what traffic shows.

use std::net::{IpAddr, SocketAddr};
use std::ops::Deref;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use weft_e2e::cluster::{Cluster, KubePod};
use weft_e2e::lab::Programs;
use weft_e2e::net::{EchoServer, Flow, Namespace, until_closed, until_open};
use weft_e2e::wait;

pub(crate) const PORT: u16 = 8080;
/// The port of services, which is not that of their pods.
pub(crate) const SERVICE_PORT: u16 = 80;

/// For what takes effect at once, on a machine that is busy.
pub(crate) const SOON: Duration = Duration::from_secs(10);
/// For what needs controllers, kube-proxy or BGP sessions first.
pub(crate) const CONVERGED: Duration = Duration::from_secs(40);

pub(crate) fn programs() -> Programs {
    Programs::beside(Path::new(env!("CARGO_BIN_EXE_weft-e2e"))).unwrap()
}

/// A Kubernetes namespace that goes with its story, also when the story fails.
pub(crate) struct Scene<'a> {
    pub(crate) cluster: &'a Cluster,
    pub(crate) name: &'static str,
}

impl<'a> Scene<'a> {
    pub(crate) fn set(cluster: &'a Cluster, name: &'static str) -> Self {
        cluster.create_namespace(name).unwrap();
        Self { cluster, name }
    }

    pub(crate) fn kubectl(&self, words: &[&str]) -> String {
        self.cluster.kubectl(&[&["-n", self.name], words].concat()).unwrap()
    }

    pub(crate) fn apply(&self, mut object: Value) {
        object["metadata"]["namespace"] = self.name.into();
        self.cluster.apply(&object.to_string()).unwrap();
    }

    /// A pod with an echo server on [`PORT`].
    pub(crate) fn server(&self, name: &str, node: &str, labels: &[(&str, &str)]) -> Server {
        let pod = self.cluster.run_pod(&format!("{}/{name}", self.name), node, labels).unwrap();
        Server::of(pod)
    }

    /// A service for TCP and UDP over all families of the cluster; `spec` adds to it or replaces.
    pub(crate) fn service(&self, name: &str, selector: &Value, spec: &Value) -> Service {
        let ports = ["TCP", "UDP"].map(|protocol| {
            json!({ "name": protocol.to_lowercase(), "protocol": protocol, "port": SERVICE_PORT, "targetPort": PORT })
        });
        let mut object = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": { "name": name },
            "spec": { "selector": selector, "ipFamilyPolicy": "PreferDualStack", "ports": ports },
        });
        for (key, value) in spec.as_object().into_iter().flatten() {
            object["spec"][key] = value.clone();
        }
        self.apply(object);
        let made = self.cluster.get(&["-n", self.name, "service", name]).unwrap();
        let ips = made["spec"]["clusterIPs"].as_array().unwrap();
        let node_port = |index: usize| made["spec"]["ports"][index]["nodePort"].as_u64();
        Service {
            ips: ips.iter().map(|ip| ip.as_str().unwrap().parse().unwrap()).collect(),
            node_ports: [0, 1].map(|index| node_port(index).map(|port| u16::try_from(port).unwrap())),
        }
    }

    /// As the nodes' own machines see it, without what their traffic alone changes.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = &'a str> {
        self.cluster.lab().plan().nodes.iter().map(|node| node.name.as_str())
    }
}

impl Drop for Scene<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.cluster.delete_namespace(self.name) {
            eprintln!("{error:#}");
        }
    }
}

/// A pod with an echo server on [`PORT`].
#[derive(Debug)]
pub(crate) struct Server {
    pod: KubePod,
    _echo: EchoServer,
}

impl Server {
    pub(crate) fn of(pod: KubePod) -> Self {
        let echo = EchoServer::start(pod.namespace(), PORT).unwrap();
        Self { pod, _echo: echo }
    }
}

impl Deref for Server {
    type Target = KubePod;

    fn deref(&self) -> &KubePod {
        &self.pod
    }
}

#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) ips: Vec<IpAddr>,
    /// Of TCP and UDP.
    pub(crate) node_ports: [Option<u16>; 2],
}

pub(crate) fn at(ip: IpAddr) -> SocketAddr {
    SocketAddr::new(ip, PORT)
}

/// TCP and UDP get through in both families.
#[track_caller]
pub(crate) fn reaches(from: &Namespace, to: &KubePod) {
    for ip in to.addresses() {
        until_open(from, at(*ip), CONVERGED).unwrap();
    }
}

#[track_caller]
pub(crate) fn reaches_service(from: &Namespace, service: &Service) {
    for ip in &service.ips {
        until_open(from, SocketAddr::new(*ip, SERVICE_PORT), CONVERGED).unwrap();
    }
}

/// Neither TCP nor UDP gets through in either family.
#[track_caller]
pub(crate) fn cut_off(from: &Namespace, to: &KubePod) {
    for ip in to.addresses() {
        until_closed(from, at(*ip), SOON).unwrap();
    }
}

/// Traffic goes on: a second's worth of echoes arrives on every flow.
#[track_caller]
pub(crate) fn until_more_echoes(flows: &[Flow], rate: u32) {
    for flow in flows {
        let enough = flow.echoed() + u64::from(rate);
        wait::until_true("more echoes", CONVERGED, || flow.echoed() >= enough).unwrap();
    }
}

/// Ends the flows; not one record was lost.
#[track_caller]
pub(crate) fn nothing_was_lost(flows: Vec<Flow>, during: &str) {
    let reports: Vec<_> = flows.into_iter().map(|flow| flow.stop().unwrap()).collect();
    for report in &reports {
        println!("  {during}: {report}");
    }
    assert!(reports.iter().all(|report| report.lost() == 0 && report.broken.is_none()), "lost {during}");
}
