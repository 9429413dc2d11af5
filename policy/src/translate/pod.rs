//! Pods, read through types that hold only what we act on: whole, a Pod takes thirty times the memory, and an agent reads
//! those of the whole cluster.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use serde::Deserialize;

use super::port::{port_number, protocol};
use crate::model::{FieldError, Labels, NamedPort, Pod, PodUid};

/// A Pod object without most of it. `null` is as absent; Go writes empty lists so.
#[derive(Debug, Default, Deserialize)]
pub struct SlimPod {
    metadata: Option<Metadata>,
    spec: Option<Spec>,
    status: Option<Status>,
}

#[derive(Debug, Default, Deserialize)]
struct Metadata {
    uid: Option<String>,
    labels: Option<Labels>,
    annotations: Option<Annotations>,
}

#[derive(Debug, Default, Deserialize)]
struct Annotations {
    /// Set by kubelet on the API's image of a static pod: the uid by which the runtime knows that pod. Others, such as
    /// `kubernetes.io/config.hash`, anybody may set on a pod of his own.
    #[serde(rename = "kubernetes.io/config.mirror")]
    static_pod_uid: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    node_name: Option<String>,
    host_network: Option<bool>,
    containers: Option<Vec<Container>>,
    init_containers: Option<Vec<Container>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Container {
    restart_policy: Option<String>,
    ports: Option<Vec<ContainerPort>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ContainerPort {
    name: Option<String>,
    protocol: Option<String>,
    container_port: Option<i32>,
}

#[derive(Debug, Default, Deserialize)]
struct Status {
    phase: Option<String>,
    #[serde(rename = "podIP")]
    pod_ip: Option<String>,
    #[serde(rename = "podIPs")]
    pod_ips: Option<Vec<PodIp>>,
}

#[derive(Debug, Deserialize)]
struct PodIp {
    ip: Option<String>,
}

/// A pod in any phase. Refused as a whole if an address or a port makes no sense: such a pod is unknown, hence closed.
pub fn pod(object: SlimPod) -> Result<Pod, FieldError> {
    let SlimPod { metadata, spec, status } = object;
    let (spec, status) = (spec.unwrap_or_default(), status.unwrap_or_default());
    let Metadata { uid, labels, annotations } = metadata.unwrap_or_default();
    let static_pod_uid = annotations.unwrap_or_default().static_pod_uid;
    Ok(Pod {
        uid: static_pod_uid.or(uid).filter(|uid| !uid.is_empty()).map(PodUid),
        labels: Arc::new(labels.unwrap_or_default()),
        ips: addresses(&status)?,
        ports: Arc::new(named_ports(&spec)?),
        active: is_active(&status)?,
        host_network: spec.host_network.unwrap_or_default(),
        node: spec.node_name,
    })
}

/// `podIPs`, and `podIP` for those who write only that.
fn addresses(status: &Status) -> Result<BTreeSet<IpAddr>, FieldError> {
    let single = status.pod_ip.iter().map(|text| ("status.podIP".to_owned(), text));
    let listed = status.pod_ips.iter().flatten().enumerate();
    let many =
        listed.filter_map(|(index, entry)| Some((format!("status.podIPs[{index}].ip"), entry.ip.as_ref()?)));
    let written = single.chain(many).filter(|(_, text)| !text.is_empty());
    let parse = |(field, text): (String, &String)| {
        text.parse().map_err(|_| FieldError { field, reason: format!("`{text}` is no address") })
    };
    written.map(parse).collect()
}

/// `Unknown` means that its node does not answer; the pod may well run.
fn is_active(status: &Status) -> Result<bool, FieldError> {
    match status.phase.as_deref() {
        None | Some("" | "Pending" | "Running" | "Unknown") => Ok(true),
        Some("Succeeded" | "Failed") => Ok(false),
        Some(other) => {
            Err(FieldError { field: "status.phase".to_owned(), reason: format!("`{other}` is no phase") })
        }
    }
}

/// Of the containers and the sidecars (init containers that restart): those that run while the pod serves.
fn named_ports(spec: &Spec) -> Result<BTreeSet<NamedPort>, FieldError> {
    let containers = spec.containers.iter().flatten().enumerate();
    let containers = containers.map(|(index, container)| ("containers", index, container));
    let initial = spec.init_containers.iter().flatten().enumerate();
    let sidecars = initial
        .filter(|(_, container)| container.restart_policy.as_deref() == Some("Always"))
        .map(|(index, container)| ("initContainers", index, container));
    let mut named = BTreeSet::new();
    for (list, at, container) in containers.chain(sidecars) {
        for (index, port) in container.ports.iter().flatten().enumerate() {
            let error = |(field, reason): (&str, String)| FieldError {
                field: format!("spec.{list}[{at}].ports[{index}].{field}"),
                reason,
            };
            named.extend(named_port(port).map_err(error)?);
        }
    }
    Ok(named)
}

/// `None` of a port without a name, which no policy can mean: whatever else is wrong with it is nothing to us.
fn named_port(port: &ContainerPort) -> Result<Option<NamedPort>, (&'static str, String)> {
    let Some(name) = port.name.clone().filter(|name| !name.is_empty()) else { return Ok(None) };
    let protocol = protocol(port.protocol.as_deref()).map_err(|reason| ("protocol", reason))?;
    let number = port.container_port.unwrap_or_default();
    let port = port_number(number).ok_or_else(|| ("containerPort", format!("{number} is no port number")))?;
    Ok(Some(NamedPort { name, protocol, port }))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::model::Protocol;
    use crate::testing::{ip, named};

    fn read(text: &str) -> Result<Pod, FieldError> {
        // By way of JSON, as agents read objects: YAML takes `null` for an empty list, too.
        let object: Value =
            serde_saphyr::from_str(&format!("{{apiVersion: v1, kind: Pod, {text}}}")).unwrap();
        pod(serde_json::from_value(object).unwrap())
    }

    fn live() -> Pod {
        Pod { active: true, ..Pod::default() }
    }

    #[test]
    fn a_pod_is_read_with_all_its_addresses_and_named_ports() {
        let read = read(
            "metadata: {name: a, namespace: x, uid: u1, labels: {app: web}},
             spec: {nodeName: n1, hostNetwork: true, volumes: [{name: v}], containers: [
                 {name: c, image: x, resources: {limits: {cpu: 1}}, ports: [{name: http, containerPort: 80}, {containerPort: 81}]},
                 {name: d, ports: [{name: http, containerPort: 8080}, {name: dns, protocol: UDP, containerPort: 53}]}],
               initContainers: [
                 {name: sidecar, restartPolicy: Always, ports: [{name: mesh, containerPort: 15001, protocol: SCTP}]},
                 {name: once, ports: [{name: once, containerPort: 1}]}]},
             status: {phase: Running, podIP: 10.0.0.1, podIPs: [{ip: 10.0.0.1}, {ip: 'fd00::1'}]}",
        );
        let ports = [
            ("http", Protocol::Tcp, 80),
            ("http", Protocol::Tcp, 8080),
            ("dns", Protocol::Udp, 53),
            ("mesh", Protocol::Sctp, 15001),
        ];
        let ports: BTreeSet<_> = ports.map(|(name, protocol, port)| named(name, protocol, port)).into();
        let expected = Pod {
            uid: Some(PodUid("u1".to_owned())),
            labels: Arc::new([("app".to_owned(), "web".to_owned())].into()),
            ips: [ip("10.0.0.1"), ip("fd00::1")].into(),
            ports: Arc::new(ports),
            active: true,
            host_network: true,
            node: Some("n1".to_owned()),
        };
        assert_eq!(read, Ok(expected));
    }

    /// What is absent, empty or null is all the same, and what nobody reads may be anything.
    #[test]
    fn a_pod_is_read_whatever_it_leaves_out() {
        let web = || Arc::new([named("web", Protocol::Tcp, 80)].into());
        let uid = |uid: &str| Some(PodUid(uid.to_owned()));
        let cases = [
            ("metadata: {name: a}", live()),
            ("metadata: null, spec: null, status: null", live()),
            ("metadata: {uid: null, labels: null, annotations: null}", live()),
            ("metadata: {uid: ''}", live()),
            (
                "metadata: {uid: api, annotations: {kubernetes.io/config.mirror: static}}",
                Pod { uid: uid("static"), ..live() },
            ),
            (
                "metadata: {uid: api, annotations: {kubernetes.io/config.hash: own}}",
                Pod { uid: uid("api"), ..live() },
            ),
            ("spec: {nodeName: null, hostNetwork: null, containers: null, initContainers: null}", live()),
            ("spec: {containers: [{name: c}, {ports: null}, {ports: []}]}", live()),
            (
                "spec: {containers: [{ports: [{name: web, containerPort: 80}]}]}",
                Pod { ports: web(), ..live() },
            ),
            (
                "spec: {containers: [{ports: [{name: web, protocol: '', containerPort: 80}]}]}",
                Pod { ports: web(), ..live() },
            ),
            (
                "spec: {containers: [{ports: [{name: web, protocol: null, containerPort: 80}]}]}",
                Pod { ports: web(), ..live() },
            ),
            (
                "spec: {containers: [{ports: [{name: '', containerPort: 80}, {name: null, containerPort: 81}]}]}",
                live(),
            ),
            (
                "spec: {containers: [{ports: [{containerPort: 0}, {containerPort: 70000}, {protocol: X}]}]}",
                live(),
            ),
            (
                "spec: {initContainers: [{restartPolicy: null, ports: [{name: web, containerPort: 80}]}]}",
                live(),
            ),
            ("status: {phase: null, podIP: null, podIPs: null}", live()),
            ("status: {phase: '', podIP: '', podIPs: [{}, {ip: ''}, {ip: null}]}", live()),
            ("status: {podIP: 10.0.0.9}", Pod { ips: [ip("10.0.0.9")].into(), ..live() }),
            ("status: {podIPs: [{ip: 10.0.0.9}]}", Pod { ips: [ip("10.0.0.9")].into(), ..live() }),
        ];
        for (text, expected) in cases {
            assert_eq!(read(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn a_pod_is_active_until_its_phase_says_that_it_has_ended() {
        for (phase, active) in
            [("Pending", true), ("Running", true), ("Unknown", true), ("Succeeded", false), ("Failed", false)]
        {
            assert_eq!(read(&format!("status: {{phase: {phase}}}")).unwrap().active, active, "{phase}");
        }
        let terminating = "metadata: {deletionTimestamp: '2026-01-01T00:00:00Z'}, status: {phase: Running, podIP: 10.0.0.9}";
        assert_eq!(read(terminating), Ok(Pod { ips: [ip("10.0.0.9")].into(), ..live() }));
    }

    #[test]
    fn a_pod_that_makes_no_sense_is_refused_by_field() {
        let cases = [
            ("status: {podIP: nine}", "status.podIP: `nine` is no address"),
            (
                "status: {podIPs: [{ip: 10.0.0.1}, {ip: 10.0.0.1/32}]}",
                "status.podIPs[1].ip: `10.0.0.1/32` is no address",
            ),
            ("status: {phase: Runing}", "status.phase: `Runing` is no phase"),
            (
                "spec: {containers: [{}, {ports: [{name: p, containerPort: 0}]}]}",
                "spec.containers[1].ports[0].containerPort: 0 is no port number",
            ),
            (
                "spec: {containers: [{ports: [{name: p, containerPort: 65536}]}]}",
                "spec.containers[0].ports[0].containerPort: 65536 is no port number",
            ),
            (
                "spec: {containers: [{ports: [{containerPort: 1}, {name: p}]}]}",
                "spec.containers[0].ports[1].containerPort: 0 is no port number",
            ),
            (
                "spec: {initContainers: [{restartPolicy: Always, ports: [{name: p, containerPort: 1, protocol: X}]}]}",
                "spec.initContainers[0].ports[0].protocol: `X` is none of TCP, UDP, SCTP",
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(read(text).unwrap_err().to_string(), expected);
        }
    }
}
