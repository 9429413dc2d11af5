//! Namespaces and pods.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, Namespace, Pod as PodObject, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::model::{FieldError, Labels, NamedPort, Pod, PodKey, PodUid, Protocol};

/// Every namespace bears its name as a label, also where no API server has written it.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// Set by kubelet on the API's image of a static pod: the uid by which the runtime knows that pod.
const STATIC_POD_UID: &str = "kubernetes.io/config.mirror";

/// The namespace's name and labels.
pub fn namespace(object: &Namespace) -> Result<(String, Labels), FieldError> {
    let name = name_of(&object.metadata)?;
    let mut labels = object.metadata.labels.clone().unwrap_or_default();
    labels.insert(NAME_LABEL.to_owned(), name.clone());
    Ok((name, labels))
}

/// A pod in any phase. Refused as a whole if an address or a port makes no sense: such a pod is unknown, hence closed.
pub fn pod(object: &PodObject) -> Result<(PodKey, Pod), FieldError> {
    let metadata = &object.metadata;
    let key = PodKey { name: name_of(metadata)?, namespace: namespace_of(metadata) };
    let problem = |field: &str, reason: String| FieldError { field: field.to_owned(), reason };
    let spec = object.spec.as_ref();
    let status = object.status.as_ref();
    let phase = status.and_then(|status| status.phase.as_deref());
    let pod = Pod {
        uid: uid(metadata),
        labels: Arc::new(metadata.labels.clone().unwrap_or_default()),
        ips: addresses(object).map_err(|text| problem("status.podIPs", format!("`{text}` is no address")))?,
        ports: spec
            .map_or(Ok(BTreeSet::new()), named_ports)
            .map_err(|reason| problem("spec.containers.ports", reason))?
            .into(),
        active: !matches!(phase, Some("Succeeded" | "Failed")),
        host_network: spec.and_then(|spec| spec.host_network).unwrap_or(false),
        node: spec.and_then(|spec| spec.node_name.clone()),
    };
    Ok((key, pod))
}

/// As `kubectl apply` does: what names no namespace is in `default`.
pub(super) fn namespace_of(metadata: &ObjectMeta) -> String {
    metadata.namespace.clone().filter(|name| !name.is_empty()).unwrap_or_else(|| "default".to_owned())
}

pub(super) fn name_of(metadata: &ObjectMeta) -> Result<String, FieldError> {
    metadata
        .name
        .clone()
        .filter(|name| !name.is_empty())
        .ok_or_else(|| FieldError { field: "metadata.name".to_owned(), reason: "is missing".to_owned() })
}

fn uid(metadata: &ObjectMeta) -> Option<PodUid> {
    let annotations = metadata.annotations.as_ref();
    annotations
        .and_then(|annotations| annotations.get(STATIC_POD_UID))
        .or(metadata.uid.as_ref())
        .filter(|uid| !uid.is_empty())
        .cloned()
        .map(PodUid)
}

/// `podIPs`, and `podIP` for those who write only that. The error is the text that is no address.
fn addresses(object: &PodObject) -> Result<BTreeSet<IpAddr>, String> {
    let Some(status) = &object.status else { return Ok(BTreeSet::new()) };
    let many = status.pod_ips.iter().flatten().map(|entry| &entry.ip);
    many.chain(&status.pod_ip)
        .filter(|text| !text.is_empty())
        .map(|text| text.parse().map_err(|_| text.clone()))
        .collect()
}

/// Of the containers and the sidecars (init containers that restart): those that run while the pod serves.
fn named_ports(spec: &PodSpec) -> Result<BTreeSet<NamedPort>, String> {
    let sidecars = spec.init_containers.iter().flatten().filter(|container| is_sidecar(container));
    let ports = spec.containers.iter().chain(sidecars).flat_map(|container| container.ports.iter().flatten());
    ports
        .filter_map(|port| Some((port.name.clone().filter(|name| !name.is_empty())?, port)))
        .map(|(name, port)| {
            let protocol = protocol(port.protocol.as_deref())?;
            let number = port_number(port.container_port)
                .ok_or_else(|| format!("{} is no port number", port.container_port))?;
            Ok(NamedPort { name, protocol, port: number })
        })
        .collect()
}

fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// TCP unless said otherwise.
pub(super) fn protocol(text: Option<&str>) -> Result<Protocol, String> {
    match text {
        None | Some("" | "TCP") => Ok(Protocol::Tcp),
        Some("UDP") => Ok(Protocol::Udp),
        Some("SCTP") => Ok(Protocol::Sctp),
        Some(other) => Err(format!("`{other}` is none of TCP, UDP, SCTP")),
    }
}

pub(super) fn port_number(number: i32) -> Option<u16> {
    u16::try_from(number).ok().filter(|&port| port != 0)
}
