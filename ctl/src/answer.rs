//! What commands answer where no agent has said it in these words: for programs as it stands here, for people as `render` has it.

use serde::Serialize;
use weft_api::crd::{PeerDown, WeftNodeStatus};

/// One node of many.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NodeSummary {
    pub(crate) node: String,
    /// Its agent runs and says so.
    pub(crate) ready: bool,
    /// Why not; empty when ready.
    pub(crate) reason: String,
    /// What the agent reported last, `None` for one that never did.
    #[serde(flatten)]
    pub(crate) status: Option<WeftNodeStatus>,
}

/// The sessions of one node of many.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NodePeers {
    pub(crate) node: String,
    pub(crate) peers_established: String,
    pub(crate) peers_down: Vec<PeerDown>,
}

/// What `check` found about one thing.
#[derive(Debug, Serialize)]
pub(crate) struct Finding {
    pub(crate) check: &'static str,
    pub(crate) verdict: Verdict,
    /// What was found, and for what is not fine, what to do.
    pub(crate) detail: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    Ok,
    /// Weft works, with the restriction that is named.
    Warning,
    /// Weft will not work.
    Missing,
}

impl Finding {
    pub(crate) fn ok(check: &'static str, detail: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Ok, detail: detail.into() }
    }

    pub(crate) fn warning(check: &'static str, detail: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Warning, detail: detail.into() }
    }

    pub(crate) fn missing(check: &'static str, detail: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Missing, detail: detail.into() }
    }
}
