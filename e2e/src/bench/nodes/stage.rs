//! What the agents of the bench find: lab, control plane, objects, and pods of their own.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::json;

use super::super::api::{Api, Request};
use super::super::paper::{self, CONTROLLERS_OFF, Scale};
use super::Sizes;
use crate::cluster::{Cluster, ClusterSpec, Etcd};
use crate::lab::{LabSpec, Node, NodeAsn, POD_CIDRS, Pod, Programs, RackSpec, RouterKind, SPINE};
use crate::wait;

/// Holds the pod CIDRs of Nodes on paper.
const PAPER_CIDRS: [&str; 2] = ["10.128.0.0/9", "fd00:128::/32"];
const PAPER_RACK: &str = "elsewhere";
/// Has no policies.
const PROBES: &str = "probes";
/// What BGP says where nobody says otherwise (RFC 4271 §10): two cores that do a fabric's work are slow at times.
const HOLD_SECONDS: u16 = 90;

pub(super) struct Stage {
    pub(super) cluster: Cluster,
    pub(super) api: Api,
    pub(super) sizes: Sizes,
    /// Of what is on paper.
    pub(super) scale: Scale,
    /// By node.
    kubeconfigs: BTreeMap<String, PathBuf>,
}

impl Stage {
    pub(super) fn raise(name: &str, sizes: &Sizes, programs: &Programs) -> Result<Self> {
        let etcd = if sizes.paged { Etcd::Distribution } else { Etcd::Pinned };
        // Nodes of an AS that are no mesh hear of each other from routers that replace it.
        let node_asn = if sizes.mesh { NodeAsn::PerRack } else { NodeAsn::Same };
        let lab = LabSpec { racks: racks(sizes), node_asn, hold_seconds: HOLD_SECONDS, ..LabSpec::default() };
        let spec = ClusterSpec { lab, etcd, ..ClusterSpec::default() };
        let cluster = Cluster::raise_control_plane(name, &spec, programs)?;
        cluster.restart_controllers_without(&CONTROLLERS_OFF)?;
        cluster.install_weft_objects()?;
        let scale = Scale {
            nodes: sizes.nodes - usize::from(sizes.count),
            pods: sizes.pods,
            policies: sizes.policies,
            namespaces: sizes.namespaces,
            racks: 1,
        };
        let api = Api::open(&cluster)?;
        let mut stage = Self { api, cluster, sizes: *sizes, scale, kubeconfigs: BTreeMap::new() };
        stage.configure()?;
        stage.write()?;
        stage.announce_paper()?;
        stage.cluster.place_agents()?;
        for node in stage.nodes() {
            let kubeconfig = stage.cluster.agent_kubeconfig(&node.name)?;
            stage.kubeconfigs.insert(node.name.clone(), kubeconfig);
        }
        Ok(stage)
    }

    pub(super) fn nodes(&self) -> Vec<Node> {
        self.cluster.lab().plan().nodes.clone()
    }

    pub(super) fn start_agent(&self, node: &str) -> Result<()> {
        let kubeconfig = self.kubeconfigs.get(node).context("a kubeconfig")?;
        self.cluster.lab().launch_agent_on(node, kubeconfig)
    }

    /// Pod CIDRs of every Node, by name.
    pub(super) fn pod_cidrs(&self) -> BTreeMap<String, [String; 2]> {
        let real = self.nodes().into_iter().map(|node| (node.name, node.pod_cidrs));
        let paper = (0..self.scale.nodes).map(|index| (paper::node_name(index), paper::pod_cidrs(index)));
        real.chain(paper).collect()
    }

    /// Runs pods by CNI on every node, and returns those for probes, one for each node.
    pub(super) fn run_pods(&self) -> Result<Vec<Pod>> {
        let nodes = self.nodes();
        let mut wanted = Vec::new();
        for (index, node) in nodes.iter().enumerate() {
            wanted.push((format!("{PROBES}/{}", node.name), node.name.clone(), "probe".to_owned()));
            for number in 0..self.sizes.local {
                let pod = index * self.sizes.local + number;
                let namespace = paper::namespace(pod % self.sizes.namespaces);
                wanted.push((format!("{namespace}/real-{pod}"), node.name.clone(), paper::app(pod)));
            }
        }
        let objects: Vec<_> = wanted.iter().map(|(key, node, app)| pod_object(key, node, app)).collect();
        self.api.send_all(&objects)?;
        let mut pods = Vec::new();
        for (key, node, app) in &wanted {
            pods.push(self.cluster.lab().run_pod(key, node, &[("app", app)])?);
        }
        self.api.send_all(&pods.iter().map(pod_status).collect::<Vec<_>>())?;
        pods.retain(|pod| pod.key().starts_with(PROBES));
        Ok(pods)
    }

    fn configure(&self) -> Result<()> {
        let cidrs = [POD_CIDRS, PAPER_CIDRS].concat();
        let mesh = if self.sizes.mesh { "full" } else { "none" };
        let spec =
            json!({ "spec": { "clusterCidrs": cidrs, "nodeMesh": mesh, "session": { "timers": null } } });
        let patch = ["patch", "bgpconfiguration", "default", "--type=merge", "-p", &spec.to_string()];
        self.cluster.kubectl(&patch).map(drop)
    }

    fn write(&self) -> Result<()> {
        let scale = &self.scale;
        let mut namespaces: Vec<_> = (0..scale.namespaces).map(paper::namespace_object).collect();
        namespaces.push(("POST", "/api/v1/namespaces".to_owned(), json!({ "metadata": { "name": PROBES } })));
        self.api.send_all(&namespaces)?;
        wait::until("service accounts", super::LIMIT, || {
            let accounts =
                self.cluster.get(&["serviceaccounts", "-A", "--field-selector=metadata.name=default"])?;
            let accounts = accounts["items"].as_array().into_iter().flatten();
            let of =
                |name: &str| namespaces.iter().any(|(.., namespace)| namespace["metadata"]["name"] == name);
            let ours = accounts
                .filter_map(|account| account["metadata"]["namespace"].as_str())
                .filter(|name| of(name));
            Ok((ours.count() == namespaces.len()).then_some(()))
        })?;
        let nodes = self.nodes();
        let real = nodes.iter().map(|node| {
            let uplink = node.uplinks[0].addresses.both().map(|address| address.to_string());
            paper::node_object(&node.name, &format!("rack{}", node.rack), &node.pod_cidrs, &uplink)
        });
        let paper = (0..scale.nodes).map(|index| paper::node(index, PAPER_RACK));
        self.api.send_all(&real.chain(paper).collect::<Vec<_>>())?;
        self.api.send_all(&(0..scale.pods).map(|index| paper::pod(index, scale)).collect::<Vec<_>>())?;
        self.api
            .send_all(&(0..scale.pods).map(|index| paper::pod_status(index, scale)).collect::<Vec<_>>())?;
        self.api.send_all(&(0..scale.policies).map(|index| paper::policy(index, scale)).collect::<Vec<_>>())
    }

    /// As the routers of their racks would.
    fn announce_paper(&self) -> Result<()> {
        const CONFIG: &str = "/etc/bird/bird.conf";
        let spine = self.cluster.lab().machine(SPINE)?;
        let mut text = spine.read(CONFIG)?;
        for (index, family) in ["ipv4", "ipv6"].into_iter().enumerate() {
            text += &format!("\nprotocol static paper_{family} {{\n  {family};\n");
            for node in 0..self.scale.nodes {
                text += &format!("  route {} unreachable;\n", paper::pod_cidrs(node)[index]);
            }
            text += "}\n";
        }
        spine.write(CONFIG, &text)?;
        self.cluster.lab().ask(SPINE, "configure").map(drop)
    }
}

/// Every other one is of FRR.
fn racks(sizes: &Sizes) -> Vec<RackSpec> {
    let rack = |rack: u8| {
        let nodes = sizes.count / sizes.racks + u8::from(rack < sizes.count % sizes.racks);
        let router = if rack.is_multiple_of(2) { RouterKind::Bird } else { RouterKind::Frr };
        RackSpec { tors: vec![router], nodes }
    };
    (0..sizes.racks).map(rack).collect()
}

fn pod_object(key: &str, node: &str, app: &str) -> Request {
    let (namespace, name) = key.split_once('/').expect("NAMESPACE/NAME");
    let ports = [("http", 8080), ("metrics", 9090)]
        .map(|(name, port)| json!({ "name": name, "containerPort": port }));
    let object = json!({
        "metadata": { "name": name, "labels": { "app": app } },
        "spec": {
            "nodeName": node, "automountServiceAccountToken": false, "tolerations": [{ "operator": "Exists" }],
            "containers": [{ "name": "main", "image": "none", "ports": ports }],
        },
    });
    ("POST", format!("/api/v1/namespaces/{namespace}/pods"), object)
}

fn pod_status(pod: &Pod) -> Request {
    let (namespace, name) = pod.key().split_once('/').expect("NAMESPACE/NAME");
    let ips: Vec<_> = pod.addresses().iter().map(|ip| json!({ "ip": ip })).collect();
    let status = json!({ "phase": "Running", "podIP": pod.ip(false), "podIPs": ips });
    ("PATCH", format!("/api/v1/namespaces/{namespace}/pods/{name}/status"), json!({ "status": status }))
}
