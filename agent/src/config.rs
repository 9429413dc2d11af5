//! What the command line and the environment say, and what that means.
//!
//! In: [`RawConfig`], as written. Out: [`Config`], as meant. All that can be wrong with it is said before anything runs.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use weft_api::Datastore;

use crate::remember::{STATE_DIR, StateConfig};

/// `weft-agent run`. Every flag has an environment variable.
#[derive(Args, Clone, Debug)]
pub struct RawConfig {
    /// This node's name: that of its Node object.
    #[arg(long, env = "WEFT_NODE", value_name = "NAME")]
    pub node: String,
    /// Where the objects come from: `kubernetes`, or `dir:PATH`, a directory of YAML files.
    #[arg(long, env = "WEFT_DATASTORE", value_name = "kubernetes|dir:PATH")]
    pub datastore: Datastore,
    /// Namespace of the Secrets with BGP passwords; only for the datastore `kubernetes`.
    #[arg(long, env = "WEFT_NAMESPACE", default_value = "weft-system")]
    pub namespace: String,
    /// Key of a taint that keeps pods away from a fresh node; removed when routes and policy are in the kernel.
    #[arg(long, env = "WEFT_STARTUP_TAINT", value_name = "KEY")]
    pub startup_taint: Option<String>,
    /// Sockets and journal; must die with the boot. Set it for weft-cni and weftctl too.
    #[arg(long, env = weft_api::RUN_DIR_ENV, default_value = weft_api::RUN_DIR, value_name = "DIR")]
    pub run_dir: PathBuf,
    /// What BGP is spoken from when the agent starts while the API server is away; must survive a reboot. Only for the
    /// datastore `kubernetes`.
    #[arg(long, env = "WEFT_STATE_DIR", default_value = STATE_DIR, value_name = "DIR")]
    pub state_dir: PathBuf,
    /// Keeps the passwords of BGP peers there too, readable by root. Without it such peers stay down until the API server
    /// is back.
    #[arg(long, env = "WEFT_STATE_PASSWORDS")]
    pub state_passwords: bool,
    /// A YAML file with this node's Node, BGPPeers and perhaps a BGPConfiguration: for a node that reaches the API server
    /// only by a route that BGP brings. What the API server says replaces it.
    #[arg(long, env = "WEFT_BOOTSTRAP", value_name = "FILE")]
    pub bootstrap: Option<PathBuf>,
    /// Metrics and health over HTTP: /metrics, /healthz, /readyz.
    #[arg(long, env = "WEFT_METRICS_ADDRESS", default_value = "[::]:9179", value_name = "ADDRESS:PORT")]
    pub metrics_address: SocketAddr,
    /// Serve what `weftctl --node` reads over TLS to network operators. Only with the datastore `kubernetes`.
    #[arg(long, env = "WEFT_OPERATORS_ADDRESS", value_name = "ADDRESS:PORT")]
    pub operators_address: Option<SocketAddr>,
    /// Of the agent's namespace: who shows a token of this service account for this node is a network operator.
    #[arg(long, env = "WEFT_OPERATORS_ACCOUNT", default_value = "weft-operator", value_name = "NAME")]
    pub operators_account: String,
    /// Where runtimes look for network configurations. 05-weft.conflist appears there when pods can be wired.
    #[arg(long, env = "WEFT_CNI_CONF_DIR", default_value = "/etc/cni/net.d", value_name = "DIR")]
    pub cni_conf_dir: PathBuf,
    /// Where runtimes look for CNI binaries.
    #[arg(long, env = "WEFT_CNI_BIN_DIR", default_value = "/opt/cni/bin", value_name = "DIR")]
    pub cni_bin_dir: PathBuf,
    /// The weft-cni to install there. Default: the one beside this program; none is installed when there is none.
    #[arg(long, env = "WEFT_CNI_BINARY", value_name = "FILE")]
    pub cni_binary: Option<PathBuf>,
    /// MTU of pod links, 1280-65535. Default: that of the smallest uplink.
    #[arg(long, env = "WEFT_MTU", value_name = "BYTES", value_parser = clap::value_parser!(u32).range(1280..=65535))]
    pub mtu: Option<u32>,
    /// The writable view of the node's sysctls: a container's own is read-only.
    #[arg(long, env = "WEFT_PROC_SYS_NET", default_value = "/proc/sys/net", value_name = "DIR")]
    pub proc_sys_net: PathBuf,
}

/// See [`RawConfig`] for each field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    pub node: String,
    pub datastore: DatastoreConfig,
    pub startup_taint: Option<String>,
    pub run_dir: PathBuf,
    pub metrics_address: SocketAddr,
    pub operators: Option<OperatorsConfig>,
    pub cni_conf_dir: PathBuf,
    pub cni_bin_dir: PathBuf,
    pub cni_binary: Option<PathBuf>,
    pub mtu: Option<u32>,
    pub proc_sys_net: PathBuf,
}

/// Who may read over the network, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorsConfig {
    pub address: SocketAddr,
    /// As the API server names a service account: `system:serviceaccount:NAMESPACE:NAME`.
    pub account: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DatastoreConfig {
    Dir(PathBuf),
    Kubernetes { namespace: String, state: StateConfig },
}

/// Why the configuration makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error("--datastore names a directory by a relative path, and the current directory is gone")]
    NoDirectory,
    #[error("--operators-address needs --datastore kubernetes, which says whose a token is")]
    Operators,
    #[error("--node is empty")]
    Node,
}

impl TryFrom<RawConfig> for Config {
    type Error = ConfigError;

    fn try_from(raw: RawConfig) -> Result<Self, ConfigError> {
        if raw.node.is_empty() {
            return Err(ConfigError::Node);
        }
        let account = format!("system:serviceaccount:{}:{}", raw.namespace, raw.operators_account);
        let operators = raw.operators_address.map(|address| OperatorsConfig { address, account });
        let datastore = match raw.datastore {
            Datastore::Kubernetes => {
                let (dir, passwords, bootstrap) = (raw.state_dir, raw.state_passwords, raw.bootstrap);
                let state = StateConfig { dir, passwords, bootstrap };
                DatastoreConfig::Kubernetes { namespace: raw.namespace, state }
            }
            // Whoever asks for its name is elsewhere.
            Datastore::Dir(path) => {
                DatastoreConfig::Dir(std::path::absolute(path).map_err(|_| ConfigError::NoDirectory)?)
            }
        };
        if operators.is_some() && matches!(datastore, DatastoreConfig::Dir(_)) {
            return Err(ConfigError::Operators);
        }
        let beside_us =
            || std::env::current_exe().ok().map(|exe| exe.with_file_name("weft-cni")).filter(|p| p.is_file());
        Ok(Self {
            node: raw.node,
            datastore,
            startup_taint: raw.startup_taint,
            run_dir: raw.run_dir,
            metrics_address: raw.metrics_address,
            operators,
            cni_conf_dir: raw.cni_conf_dir,
            cni_bin_dir: raw.cni_bin_dir,
            cni_binary: raw.cni_binary.or_else(beside_us),
            mtu: raw.mtu,
            proc_sys_net: raw.proc_sys_net,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(datastore: &str) -> RawConfig {
        RawConfig {
            node: "n1".to_owned(),
            datastore: datastore.parse().unwrap(),
            namespace: "weft-system".to_owned(),
            startup_taint: None,
            run_dir: "/run/weft".into(),
            state_dir: STATE_DIR.into(),
            state_passwords: false,
            bootstrap: None,
            metrics_address: "[::]:9179".parse().unwrap(),
            operators_address: None,
            operators_account: "weft-operator".to_owned(),
            cni_conf_dir: "/etc/cni/net.d".into(),
            cni_bin_dir: "/opt/cni/bin".into(),
            cni_binary: None,
            mtu: None,
            proc_sys_net: "/proc/sys/net".into(),
        }
    }

    #[test]
    fn the_datastore_names_its_kind() {
        let config = Config::try_from(raw("dir:/etc/weft")).unwrap();
        assert_eq!(config.datastore, DatastoreConfig::Dir("/etc/weft".into()));
        let config = Config::try_from(raw("kubernetes")).unwrap();
        let state = StateConfig { dir: STATE_DIR.into(), passwords: false, bootstrap: None };
        let namespace = "weft-system".to_owned();
        assert_eq!(config.datastore, DatastoreConfig::Kubernetes { namespace, state });
        let config = Config::try_from(raw("dir:conf")).unwrap();
        let DatastoreConfig::Dir(path) = config.datastore else { panic!("{config:?}") };
        assert!(path.is_absolute() && path.ends_with("conf"), "{path:?}");
    }

    #[test]
    fn operators_are_those_of_the_agents_namespace_and_need_an_api_server() {
        let with = |datastore| {
            let operators_address = Some("[::]:9180".parse().unwrap());
            Config::try_from(RawConfig { operators_address, ..raw(datastore) })
        };
        let operators = with("kubernetes").unwrap().operators.unwrap();
        assert_eq!(operators.account, "system:serviceaccount:weft-system:weft-operator");
        assert_eq!(with("dir:/etc/weft"), Err(ConfigError::Operators));
        assert_eq!(Config::try_from(raw("kubernetes")).unwrap().operators, None);
    }

    #[test]
    fn a_nameless_node_is_refused() {
        assert_eq!(
            Config::try_from(RawConfig { node: String::new(), ..raw("dir:x") }),
            Err(ConfigError::Node)
        );
    }
}
