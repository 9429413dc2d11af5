//! Which pods of this node are to be policed, and as whom.
//!
//! In: what the CNI wired. Out: the local pods that [`weft_policy::compile()`] asks for.

use weft_pods::attachment::{Attachment, PortMapping, Transport};
use weft_policy::model::{HostPort, LocalPod, PodKey, PodUid, Protocol};

/// An attachment without a pod's name (made by hand, without a cluster) is in no namespace: no policy selects it.
pub fn local_pod(attachment: &Attachment) -> LocalPod {
    let key = match &attachment.pod {
        Some(pod) => PodKey { namespace: pod.namespace.clone(), name: pod.name.clone() },
        None => PodKey { namespace: String::new(), name: attachment.id.to_string() },
    };
    LocalPod {
        key,
        uid: attachment.pod.as_ref().and_then(|pod| pod.uid.clone()).map(PodUid),
        link: attachment.link.clone(),
        ips: attachment.addresses.iter().collect(),
        ports: attachment.ports.iter().map(host_port).collect(),
    }
}

fn host_port(port: &PortMapping) -> HostPort {
    HostPort {
        protocol: match port.transport {
            Transport::Tcp => Protocol::Tcp,
            Transport::Udp => Protocol::Udp,
            Transport::Sctp => Protocol::Sctp,
        },
        host_port: port.host_port,
        host_ip: port.host_ip,
        port: port.container_port,
    }
}
