//! etcd, API server, controller manager and scheduler on the machine [`CONTROL`](crate::lab::CONTROL).

use std::ffi::OsString;
use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::weft::NAMESPACE;
use super::{Binaries, Pki};
use crate::lab::Machine;

/// First the one that `kubernetes.default` has: the first address of each range.
pub(super) const SERVICE_CIDRS: [&str; 2] = ["10.96.0.0/16", "fd00:10:96::/112"];
pub(super) const CLUSTER_DNS: &str = "10.96.0.10";
const FIRST_SERVICE: [IpAddr; 2] = [
    IpAddr::V4(std::net::Ipv4Addr::new(10, 96, 0, 1)),
    IpAddr::V6(std::net::Ipv6Addr::new(0xfd00, 0x10, 0x96, 0, 0, 0, 0, 1)),
];

/// What the control plane is told about its cluster.
#[derive(Clone, Debug)]
pub(super) struct ControlPlane {
    pub(super) machine: Machine,
    pub(super) address: IpAddr,
    pub(super) pki: Pki,
    pub(super) binaries: Binaries,
    pub(super) etcd: PathBuf,
    /// One per family in use.
    pub(super) pod_cidrs: Vec<String>,
    /// Length of a node's IPv4 podCIDR.
    pub(super) node_mask: u8,
}

/// One request to the API server, as it is.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    pub method: &'a str,
    /// With its query.
    pub path: &'a str,
    /// Null for none.
    pub body: Value,
    /// `NAME: VALUE`.
    pub headers: &'a [&'a str],
}

impl ControlPlane {
    pub(super) fn server(&self) -> String {
        format!("https://{}:6443", self.address)
    }

    /// Starts all of it; returns when the API server says that it is ready.
    pub(super) fn start(&self) -> Result<()> {
        self.start_etcd()?;
        self.start_api_server()?;
        super::wait_for_api(self)?;
        self.start_controller_manager(&[])?;
        self.start_scheduler()
    }

    pub(super) fn kubectl(&self, words: &[&str]) -> Result<String> {
        self.kubectl_with_input(words, "")
    }

    pub(super) fn kubectl_with_input(&self, words: &[&str], input: &str) -> Result<String> {
        let kubectl = self.binaries.path("kubectl")?;
        let config = self.admin_config();
        let mut command: Vec<OsString> = vec![kubectl.into(), "--kubeconfig".into(), config.into()];
        command.extend(words.iter().map(OsString::from));
        self.machine.run_with_input(command, input)
    }

    /// As whoever has `token`; the status and the body of the answer. Not by kubectl, which asks more than it is told to.
    pub(super) fn request(&self, token: &str, request: &Request<'_>) -> Result<(u16, String)> {
        let Request { method, path, body, headers } = request;
        let mut curl = vec!["curl".to_owned(), "--silent".to_owned(), "--show-error".to_owned()];
        curl.extend(["--request".to_owned(), (*method).to_owned()]);
        curl.extend(["--cacert".to_owned(), self.pki.authority().certificate.display().to_string()]);
        let headers = headers.iter().map(|header| (*header).to_owned());
        for header in headers.chain([format!("Authorization: Bearer {token}")]) {
            curl.extend(["--header".to_owned(), header]);
        }
        if !body.is_null() {
            curl.extend(["--data-binary".to_owned(), body.to_string()]);
        }
        curl.extend(["--write-out".to_owned(), "\n%{http_code}".to_owned(), self.server() + path]);
        let answer = self.machine.run(curl)?;
        let (body, code) = answer.rsplit_once('\n').context("an answer with a status")?;
        Ok((code.parse().with_context(|| answer.clone())?, body.to_owned()))
    }

    pub(super) fn admin_config(&self) -> PathBuf {
        self.pki.authority().certificate.with_file_name("admin.kubeconfig")
    }

    fn start_etcd(&self) -> Result<()> {
        let mut etcd = Command::new(&self.etcd);
        // On the machine's tmpfs: a test's cluster need not survive a power cut, and fsync is most of etcd's time.
        etcd.args(["--data-dir=/run/etcd", "--listen-client-urls=http://127.0.0.1:2379"]);
        etcd.args([
            "--advertise-client-urls=http://127.0.0.1:2379",
            "--listen-peer-urls=http://127.0.0.1:2380",
        ]);
        self.machine.daemon("etcd", &mut etcd).map(drop)
    }

    pub(super) fn start_api_server(&self) -> Result<()> {
        let addresses = [&[self.address][..], &FIRST_SERVICE].concat();
        let hosts = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost"];
        let serving = self.pki.issue("apiserver", "/CN=kube-apiserver", &hosts, &addresses)?;
        self.pki.kubeconfig("admin", "/O=system:masters/CN=admin", &self.server())?;
        let admin = self.pki.pair("admin");
        let service_account = self.pki.service_account_key();
        let mut server = Command::new(self.binaries.path("kube-apiserver")?);
        server.args([
            format!("--advertise-address={}", self.address),
            "--etcd-servers=http://127.0.0.1:2379".to_owned(),
            format!("--service-cluster-ip-range={}", self.service_cidrs()),
            format!("--client-ca-file={}", self.pki.authority().certificate.display()),
            format!("--tls-cert-file={}", serving.certificate.display()),
            format!("--tls-private-key-file={}", serving.key.display()),
            format!("--kubelet-client-certificate={}", admin.certificate.display()),
            format!("--kubelet-client-key={}", admin.key.display()),
            // Without this exec and logs look a node's name up in DNS.
            "--kubelet-preferred-address-types=InternalIP".to_owned(),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            format!("--service-account-key-file={}", service_account.display()),
            format!("--service-account-signing-key-file={}", service_account.display()),
            "--authorization-mode=Node,RBAC".to_owned(),
            "--endpoint-reconciler-type=lease".to_owned(),
            format!("--audit-policy-file={}", self.audit_policy()?.display()),
            format!("--audit-log-path={}", self.audit_log().display()),
            "--allow-privileged=true".to_owned(),
        ]);
        self.machine.daemon("kube-apiserver", &mut server).map(drop)
    }

    /// What Weft's service accounts ask for, and no bodies.
    fn audit_policy(&self) -> Result<PathBuf> {
        let policy = json!({
            "apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"],
            "rules": [{ "level": "Metadata", "userGroups": [format!("system:serviceaccounts:{NAMESPACE}")] }],
        });
        let path = self.admin_config().with_file_name("audit.json");
        fs::write(&path, policy.to_string()).with_context(|| path.display().to_string())?;
        Ok(path)
    }

    /// An event on each line.
    pub(super) fn audit_log(&self) -> PathBuf {
        self.admin_config().with_file_name("audit.log")
    }

    /// All controllers but those named.
    pub(super) fn start_controller_manager(&self, disabled: &[&str]) -> Result<()> {
        let controllers = ["*".to_owned()].into_iter().chain(disabled.iter().map(|name| format!("-{name}")));
        let config = self.pki.kubeconfig("kcm", "/CN=system:kube-controller-manager", &self.server())?;
        let authority = self.pki.authority();
        let mut manager = Command::new(self.binaries.path("kube-controller-manager")?);
        manager.args([
            format!("--kubeconfig={}", config.display()),
            format!("--controllers={}", controllers.collect::<Vec<_>>().join(",")),
            "--allocate-node-cidrs=true".to_owned(),
            format!("--cluster-cidr={}", self.pod_cidrs.join(",")),
            format!("--service-cluster-ip-range={}", self.service_cidrs()),
            format!("--root-ca-file={}", authority.certificate.display()),
            format!("--service-account-private-key-file={}", self.pki.service_account_key().display()),
            "--use-service-account-credentials=true".to_owned(),
            "--leader-elect=false".to_owned(),
        ]);
        let mask = self.node_mask;
        manager.args(if self.pod_cidrs.len() == 2 {
            vec![format!("--node-cidr-mask-size-ipv4={mask}"), "--node-cidr-mask-size-ipv6=64".to_owned()]
        } else {
            vec![format!("--node-cidr-mask-size={mask}")]
        });
        self.machine.daemon("kube-controller-manager", &mut manager).map(drop)
    }

    fn start_scheduler(&self) -> Result<()> {
        let config = self.pki.kubeconfig("scheduler", "/CN=system:kube-scheduler", &self.server())?;
        let mut scheduler = Command::new(self.binaries.path("kube-scheduler")?);
        scheduler.args([format!("--kubeconfig={}", config.display()), "--leader-elect=false".to_owned()]);
        self.machine.daemon("kube-scheduler", &mut scheduler).context("kube-scheduler").map(drop)
    }

    fn service_cidrs(&self) -> String {
        SERVICE_CIDRS[..self.pod_cidrs.len()].join(",")
    }
}
