//! How long a runtime waits for a pod's network: ADD and DEL of `weft-cni`, of `ptp` with `host-local`, and the floor.
//!
//! One namespace is the node, with the whole agent in it; each pod is a fresh namespace and a Pod object that the agent
//! knows. The candidates take turns, pod by pod, because a shared machine drifts: read the ratios. Weft wires both
//! families and commits the pod's policy; `ptp` wires IPv4 only, as with IPv6 it waits 1.8 s for duplicate address
//! detection. The floor is to start a static program that does nothing: `weft-cni` with VERSION.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::lab::Programs;
use crate::net::Namespace;
use crate::wait::until_true;

/// Where distributions put the reference plugins.
const PLUGIN_DIRS: [&str; 2] = ["/usr/lib/cni", "/opt/cni/bin"];
const NODE: &str = "node";
/// Of an agent that may have ten thousand pods to read first.
const READY: Duration = Duration::from_secs(120);
/// A file that is larger than the agent reads is refused whole.
const OBJECTS_PER_FILE: usize = 1000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Floor,
    Weft,
    Ptp,
}

/// Prints medians of ADD and DEL of `pods` pods, and their ratios.
pub fn run(pods: usize, programs: &Programs) -> Result<()> {
    ensure!(pods > 0, "at least one pod");
    let plugins = PLUGIN_DIRS.iter().map(PathBuf::from).find(|dir| dir.join("ptp").exists());
    let plugins = plugins.context("no ptp: install containernetworking-plugins")?;
    let bed = Testbed::raise(&objects(pods), plugins, programs)?;
    let mut times: BTreeMap<(&str, Kind), Vec<Duration>> = BTreeMap::new();
    let kinds = [Kind::Weft, Kind::Ptp];
    let namespaces = || Ok([Namespace::create("pod")?, Namespace::create("pod")?]);
    let netns: Vec<[Namespace; 2]> = (0..pods).map(|_| namespaces()).collect::<Result<_>>()?;
    // All ADDs before all DELs: the deletion of a link holds the kernel's lock for tens of milliseconds, whoever waits.
    for verb in ["ADD", "DEL"] {
        for (index, netns) in netns.iter().enumerate() {
            times.entry(("ADD", Kind::Floor)).or_default().push(bed.call(
                Kind::Floor,
                "VERSION",
                "/",
                index,
            )?);
            for (kind, netns) in kinds.iter().zip(netns) {
                let elapsed = bed.call(*kind, verb, &netns.path(), index)?;
                times.entry((verb, *kind)).or_default().push(elapsed);
            }
        }
    }
    let mut median = |verb, kind| times.get_mut(&(verb, kind)).map_or(Duration::ZERO, |times| median(times));
    println!(
        "medians of {pods} pods, microseconds\n{:>6} {:>10} {:>10} {:>10}",
        "", "floor", "weft", "ptp v4"
    );
    for verb in ["ADD", "DEL"] {
        let [floor, weft, ptp] = [("ADD", Kind::Floor), (verb, Kind::Weft), (verb, Kind::Ptp)]
            .map(|(v, k)| median(v, k).as_micros());
        println!("{verb:>6} {floor:>10} {weft:>10} {ptp:>10}   ptp/weft {:.1}", ratio(ptp, weft));
    }
    Ok(())
}

pub(super) fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn ratio(a: u128, b: u128) -> f64 {
    let [a, b] = [a, b].map(|n| f64::from(u32::try_from(n).unwrap_or(u32::MAX)));
    a / b.max(1.0)
}

/// The node with its agent. All of it goes when it is dropped.
pub(super) struct Testbed {
    pub(super) node: Namespace,
    agent: Child,
    pub(super) dir: PathBuf,
    weft_cni: PathBuf,
    plugins: PathBuf,
}

impl Testbed {
    /// With these objects in the agent's directory, [`Self::store`].
    pub(super) fn raise(objects: &[Value], plugins: PathBuf, programs: &Programs) -> Result<Self> {
        let weft_cni = programs.path("weft-cni")?;
        let dir = std::env::temp_dir().join(format!("weft-bench-cni-{}", std::process::id()));
        let store = dir.join("store");
        fs::create_dir_all(&store)?;
        for (index, items) in objects.chunks(OBJECTS_PER_FILE).enumerate() {
            let list = json!({ "apiVersion": "v1", "kind": "List", "items": items });
            fs::write(store.join(format!("objects-{index}.yaml")), list.to_string())?;
        }
        let node = Namespace::create(NODE)?;
        let mut command = Command::new(programs.path("weft-agent")?);
        // With WEFT_LOG=info the agent says where the time of each ADD went.
        command.args(["run", "--node", NODE, "--metrics-address", "127.0.0.1:9179"]);
        if std::env::var_os("WEFT_LOG").is_none() {
            command.env("WEFT_LOG", "warn");
        }
        command.arg("--datastore").arg(format!("dir:{}", store.display()));
        command.arg("--run-dir").arg(dir.join("run"));
        command.arg("--cni-conf-dir").arg(dir.join("net.d")).arg("--cni-bin-dir").arg(dir.join("bin"));
        let agent = node.enter(|| {
            let up = Command::new("ip").args(["link", "set", "lo", "up"]).status()?;
            ensure!(up.success(), "ip link set lo up");
            command.stdin(Stdio::null()).spawn().context("weft-agent")
        })?;
        let bed = Self { node, agent, dir, weft_cni, plugins };
        let conflist = bed.dir.join("net.d/05-weft.conflist");
        until_true("conflist of the agent", READY, || conflist.exists())?;
        Ok(bed)
    }

    pub(super) fn store(&self) -> PathBuf {
        self.dir.join("store")
    }

    /// From the start of the plugin to its end.
    pub(super) fn call(&self, kind: Kind, verb: &str, netns: &str, index: usize) -> Result<Duration> {
        let (program, conf) = match kind {
            Kind::Floor | Kind::Weft => {
                (self.weft_cni.clone(), json!({ "cniVersion": "1.0.0", "name": "weft", "type": "weft-cni" }))
            }
            Kind::Ptp => (self.plugins.join("ptp"), ptp_conf(&self.dir.join("host-local"))),
        };
        let mut command = Command::new(program);
        command
            .env("CNI_COMMAND", verb)
            .env("CNI_CONTAINERID", format!("bench-{index}"))
            .env("CNI_NETNS", netns)
            .env("CNI_IFNAME", "eth0")
            .env("CNI_ARGS", format!("IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=pod-{index}"))
            .env("CNI_PATH", &self.plugins)
            .env(weft_api::RUN_DIR_ENV, self.dir.join("run"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        self.node.enter(|| {
            let start = Instant::now();
            let mut child = command.spawn()?;
            child.stdin.take().context("stdin")?.write_all(conf.to_string().as_bytes())?;
            let output = child.wait_with_output()?;
            let elapsed = start.elapsed();
            ensure!(output.status.success(), "{kind:?} {verb}: {}", String::from_utf8_lossy(&output.stdout));
            Ok(elapsed)
        })
    }
}

impl Drop for Testbed {
    fn drop(&mut self) {
        // It may have ended by itself, which the run has reported.
        let _ = self.agent.kill();
        let _ = self.agent.wait();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn ptp_conf(data_dir: &Path) -> Value {
    let ipam =
        json!({ "type": "host-local", "dataDir": data_dir, "ranges": [[{ "subnet": "10.78.0.0/16" }]] });
    json!({ "cniVersion": "1.0.0", "name": "bench", "type": "ptp", "ipam": ipam })
}

pub(super) fn objects(pods: usize) -> Vec<Value> {
    let node = json!({
        "apiVersion": "v1", "kind": "Node", "metadata": { "name": NODE },
        "spec": { "podCIDRs": ["10.77.0.0/16", "fd77::/64"] },
        "status": { "addresses": [{ "type": "InternalIP", "address": "192.0.2.1" }] },
    });
    let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "default" } });
    let pod = |index| {
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": format!("pod-{index}"), "namespace": "default" },
            "spec": { "nodeName": NODE, "containers": [] },
        })
    };
    [node, namespace].into_iter().chain((0..pods).map(pod)).collect()
}
