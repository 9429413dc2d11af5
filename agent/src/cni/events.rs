//! Link events of the kernel: a link that dies frees its addresses, whoever deleted it; one that goes down is repaired.

use std::sync::Arc;

use weft_pods::ledger::Phase;

use super::service::Service;
use crate::gate::PolicyGate;
use crate::kernel::pod_links::{PodLinkEvent, PodLinks};
use crate::supervise::brief;

pub(super) async fn listen<G: PolicyGate>(service: Arc<Service<G>>, mut links: PodLinks) {
    loop {
        match links.next().await {
            Ok(PodLinkEvent::Gone { link }) => {
                let service = Arc::clone(&service);
                brief(async move { service.link_gone(&link).await });
            }
            Ok(PodLinkEvent::Down { link }) => {
                if service.phase_of_link(&link) == Some(Phase::Attached) {
                    service.audit.notify_one();
                }
            }
            Ok(PodLinkEvent::Lost) => service.audit.notify_one(),
            Err(error) => {
                tracing::warn!(%error, "link events not read");
                service.audit.notify_one();
            }
        }
    }
}
