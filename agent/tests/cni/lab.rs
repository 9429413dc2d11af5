//! A node and its pods, made of network namespaces. All of it goes when the values are dropped.

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use weft_agent::cni::{CniConfig, CniService};
use weft_agent::gate::PolicyGate;
use weft_agent::supervise::supervisor;
use weft_pods::attachment::{Attachment, AttachmentId};

const DEADLINE: Duration = Duration::from_secs(10);
/// Tells the process that [`serve`] runs in what to do.
const RUN_DIR: &str = "WEFT_TEST_RUN_DIR";
const POOLS: &str = "WEFT_TEST_POOLS";
/// Within the run directory: where the agent has the node's `/proc/sys/net`.
const PROC_SYS_NET: &str = "proc-sys-net";
/// What a container has: its own `/proc/sys` is read-only, and the host's is mounted at `$1`.
const AS_IN_A_CONTAINER: &str = "set -e; mount --bind /proc/sys/net \"$1\"; mount --bind /proc/sys /proc/sys; \
                                 mount -o remount,bind,ro /proc/sys; shift; exec \"$@\"";
/// All that an agent has.
const CAPABILITIES: &str = "-all,+net_admin,+net_bind_service";

pub(crate) fn eventually(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < DEADLINE, "not within {DEADLINE:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Runs a command, whose success is expected, and gives its output.
pub(crate) fn run(command: &str) -> String {
    let (ok, output) = try_run(command);
    assert!(ok, "{command}: {output}");
    output
}

pub(crate) fn try_run(command: &str) -> (bool, String) {
    let mut words = command.split_whitespace();
    let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), text)
}

/// A counter of a namespace's IPv6.
pub(crate) fn snmp6(netns: &str, counter: &str) -> u64 {
    let counters = run(&format!("ip netns exec {netns} cat /proc/net/snmp6"));
    let line = counters.lines().find(|line| line.starts_with(counter)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn unique(prefix: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{prefix}{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Lets pods pass unless the run directory has a file `hold-policy` (wait while it is there) or `refuse-policy`.
struct FileGate(PathBuf);

impl PolicyGate for FileGate {
    type Error = String;

    async fn admit(&self, attachment: &Attachment) -> Result<(), String> {
        std::fs::write(self.0.join("admitted"), &attachment.link).unwrap();
        // As the real one, which has to ask its thread.
        tokio::task::yield_now().await;
        while self.0.join("hold-policy").exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        if self.0.join("refuse-policy").exists() { Err("refused by the test".into()) } else { Ok(()) }
    }

    async fn release(&self, _: &AttachmentId) {}

    async fn recovered(&self, attachments: Vec<Attachment>) {
        let ids: Vec<String> =
            attachments.iter().map(|attachment| attachment.id.container_id.clone()).collect();
        std::fs::write(self.0.join("recovered"), ids.join(" ")).unwrap();
    }
}

/// The agent's process: never returns.
pub(crate) fn serve() {
    let run_dir = PathBuf::from(std::env::var_os(RUN_DIR).expect("only a lab executes this"));
    let pools = std::env::var(POOLS).unwrap_or_default();
    let pools: Vec<_> = pools.split_whitespace().map(|pool| pool.parse().unwrap()).collect();
    tracing_subscriber::fmt().with_max_level(tracing::Level::INFO).with_writer(std::io::stderr).init();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().worker_threads(2).build().unwrap();
    runtime.block_on(async {
        let proc_sys_net = run_dir.join(PROC_SYS_NET);
        let config = CniConfig { run_dir: run_dir.clone(), node: "node".into(), mtu: 1400, proc_sys_net };
        let cni = CniService::spawn(&supervisor().0, config, FileGate(run_dir.clone())).await.unwrap();
        cni.set_pools(&pools);
        cni.set_ready(Ok(()));
        loop {
            let ipam = serde_json::to_vec(&cni.ipam()).unwrap();
            std::fs::write(run_dir.join("ipam.new"), ipam).unwrap();
            std::fs::rename(run_dir.join("ipam.new"), run_dir.join("ipam.json")).unwrap();
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
}

/// The client as it is built beside this test.
fn weft_cni() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        let built =
            Command::new(env!("CARGO")).args(["build", "-q", "-p", "weft-cni", "--bin", "weft-cni"]).status();
        assert!(built.unwrap().success());
        let exe = std::env::current_exe().unwrap();
        exe.parent().and_then(Path::parent).unwrap().join("weft-cni")
    })
}

pub(crate) struct Node {
    pub(crate) netns: String,
    pub(crate) run_dir: PathBuf,
    pools: String,
    agent: Option<Child>,
}

impl Node {
    /// With a running agent and these pools.
    pub(crate) fn new(pools: &str) -> Self {
        let netns = unique("weft-node-");
        let run_dir = std::env::temp_dir().join(&netns);
        std::fs::create_dir_all(run_dir.join(PROC_SYS_NET)).unwrap();
        run(&format!("ip netns add {netns}"));
        let mut node = Self { netns, run_dir, pools: pools.to_owned(), agent: None };
        node.ip("link set lo up");
        node.ip("addr add 192.0.2.1/32 dev lo");
        node.ip("addr add 2001:db8::1/128 dev lo");
        node.exec("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
        node.start_agent();
        node
    }

    /// With a pool of each family.
    pub(crate) fn dual_stack() -> Self {
        Self::new("10.77.0.0/24 fd77::/64")
    }

    pub(crate) fn start_agent(&mut self) {
        let exe = std::env::current_exe().unwrap();
        let agent = Command::new("ip")
            .args(["netns", "exec", &self.netns, "sh", "-c", AS_IN_A_CONTAINER, "sh"])
            .arg(self.run_dir.join(PROC_SYS_NET))
            .args(["setpriv", "--bounding-set", CAPABILITIES, "--inh-caps", "-all", "--"])
            .arg(exe)
            .args(["--exact", "agent_process", "--ignored", "--nocapture"])
            .env(RUN_DIR, &self.run_dir)
            .env(POOLS, &self.pools)
            .stdout(Stdio::null())
            .spawn();
        self.agent = Some(agent.unwrap());
        let _ = std::fs::remove_file(self.run_dir.join("ipam.json"));
        eventually("the agent serves", || self.run_dir.join("ipam.json").exists());
    }

    /// SIGKILL.
    pub(crate) fn kill_agent(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            agent.kill().unwrap();
            agent.wait().unwrap();
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.agent.as_ref().unwrap().id()
    }

    pub(crate) fn exec(&self, command: &str) -> String {
        run(&format!("ip netns exec {} {command}", self.netns))
    }

    pub(crate) fn ip(&self, arguments: &str) -> String {
        run(&format!("ip -n {} {arguments}", self.netns))
    }

    /// Executes `weft-cni` as a runtime does.
    pub(crate) fn cni(&self, env: &BTreeMap<&str, String>, stdin: &str) -> Answer {
        self.spawn_cni(env, stdin).wait()
    }

    pub(crate) fn spawn_cni(&self, env: &BTreeMap<&str, String>, stdin: &str) -> Call {
        self.spawn(&[], weft_cni(), env, stdin)
    }

    /// As a user without any right, who yet can reach the socket.
    pub(crate) fn cni_as_nobody(&self, env: &BTreeMap<&str, String>, stdin: &str) -> Answer {
        let client = self.run_dir.join("client");
        std::fs::copy(weft_cni(), &client).unwrap();
        for (path, mode) in
            [(&self.run_dir, 0o755), (&client, 0o755), (&self.run_dir.join("cni.sock"), 0o666)]
        {
            std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        }
        let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
        self.spawn(&nobody, &client, env, stdin).wait()
    }

    fn spawn(&self, prefix: &[&str], client: &Path, env: &BTreeMap<&str, String>, stdin: &str) -> Call {
        use std::io::Write;
        let mut child = Command::new("ip")
            .args(["netns", "exec", &self.netns])
            .args(prefix)
            .arg(client)
            .env("WEFT_RUN_DIR", &self.run_dir)
            .envs(env)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
        Call(child)
    }

    pub(crate) fn add(&self, pod: &Pod) -> Answer {
        self.cni(&pod.env("ADD"), &conf("1.1.0", json!({})))
    }

    pub(crate) fn del(&self, pod: &Pod) -> Answer {
        self.cni(&pod.env("DEL"), &conf("1.1.0", json!({})))
    }

    pub(crate) fn check(&self, pod: &Pod, previous: &Value) -> Answer {
        self.cni(&pod.env("CHECK"), &conf("1.1.0", json!({ "prevResult": previous })))
    }

    /// Names of pod links.
    pub(crate) fn links(&self) -> Vec<String> {
        let links: Value = serde_json::from_str(&self.ip("-j link show")).unwrap();
        let names = links.as_array().unwrap().iter().map(|link| link["ifname"].as_str().unwrap().to_owned());
        names.filter(|name| name.starts_with("weft")).collect()
    }

    /// The first pool's numbers and the allocations, as the agent tells them.
    pub(crate) fn ipam(&self) -> weft_api::control::Ipam {
        serde_json::from_slice(&std::fs::read(self.run_dir.join("ipam.json")).unwrap()).unwrap()
    }

    /// Nothing of any pod is left, in the kernel or in the books.
    pub(crate) fn assert_clean(&self) {
        eventually("no pod link is left", || self.links().is_empty());
        eventually("no allocation is left", || self.ipam().allocations.is_empty());
        assert_eq!(self.ip("route show proto 87"), "");
        assert_eq!(self.ip("-6 route show proto 87"), "");
        assert_eq!(self.ip("neigh show nud permanent"), "");
        for pool in self.ipam().pools {
            assert_eq!(pool.used, 0);
            assert_eq!(pool.free + pool.cooling + pool.reserved, pool.size);
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill_agent();
        let _ = try_run(&format!("ip netns del {}", self.netns));
        let _ = std::fs::remove_dir_all(&self.run_dir);
    }
}

/// A running `weft-cni`.
pub(crate) struct Call(Child);

impl Call {
    pub(crate) fn wait(self) -> Answer {
        let output = self.0.wait_with_output().unwrap();
        Answer { code: output.status.code(), stdout: String::from_utf8(output.stdout).unwrap() }
    }

    pub(crate) fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
}

impl Answer {
    /// The one document of a call that succeeded.
    pub(crate) fn result(&self) -> Value {
        assert_eq!(self.code, Some(0), "{self:?}");
        serde_json::from_str(&self.stdout).unwrap()
    }

    pub(crate) fn assert_ok(&self) {
        assert_eq!((self.code, self.stdout.as_str()), (Some(0), ""));
    }

    /// The `code` and `msg` of a call that failed.
    pub(crate) fn error(&self) -> (u64, String) {
        assert_eq!(self.code, Some(1), "{self:?}");
        let document: Value = serde_json::from_str(&self.stdout).unwrap();
        (document["code"].as_u64().unwrap(), document["msg"].as_str().unwrap().to_owned())
    }
}

/// A network configuration with `more` keys.
pub(crate) fn conf(version: &str, more: Value) -> String {
    let mut conf = json!({ "cniVersion": version, "name": "weft", "type": "weft-cni" });
    let Value::Object(more) = more else { panic!("keys and values") };
    conf.as_object_mut().unwrap().extend(more);
    conf.to_string()
}

/// A sandbox: a namespace with a container id.
pub(crate) struct Pod {
    pub(crate) netns: String,
    pub(crate) container_id: String,
}

impl Pod {
    pub(crate) fn new() -> Self {
        let netns = unique("weft-pod-");
        run(&format!("ip netns add {netns}"));
        Self { container_id: format!("cid-{netns}"), netns }
    }

    pub(crate) fn env(&self, command: &str) -> BTreeMap<&'static str, String> {
        let args = format!("IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME={}", self.netns);
        BTreeMap::from([
            ("CNI_COMMAND", command.to_owned()),
            ("CNI_CONTAINERID", self.container_id.clone()),
            ("CNI_NETNS", format!("/run/netns/{}", self.netns)),
            ("CNI_IFNAME", "eth0".to_owned()),
            ("CNI_ARGS", args),
            ("CNI_PATH", "/opt/cni/bin".to_owned()),
        ])
    }

    pub(crate) fn ip(&self, arguments: &str) -> String {
        run(&format!("ip -n {} {arguments}", self.netns))
    }

    pub(crate) fn can_ping(&self, address: &str) -> bool {
        try_run(&format!("ip netns exec {} ping -n -c 1 -W 2 {address}", self.netns)).0
    }

    /// What the runtime does in the end, and a careless one too early.
    pub(crate) fn destroy(&self) {
        let _ = try_run(&format!("ip netns del {}", self.netns));
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        self.destroy();
    }
}

/// The addresses of a result, without their lengths.
pub(crate) fn addresses(result: &Value) -> Vec<String> {
    let ips = result["ips"].as_array().unwrap().iter();
    ips.map(|ip| ip["address"].as_str().unwrap().split('/').next().unwrap().to_owned()).collect()
}

pub(crate) fn link(result: &Value) -> String {
    result["interfaces"][0]["name"].as_str().unwrap().to_owned()
}
