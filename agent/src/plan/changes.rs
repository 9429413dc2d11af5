//! Which snapshots are worth planning from.

use std::sync::Arc;

use weft_intent::Snapshot;

use crate::watch::SnapshotReceiver;

/// The next snapshot that may make another plan. `before` is the last one that was seen, planned or not.
pub(crate) async fn next_to_plan(
    snapshots: &mut SnapshotReceiver,
    before: &mut Option<Arc<Snapshot>>,
) -> Option<Arc<Snapshot>> {
    let differs = |now: &Option<Arc<Snapshot>>| {
        let Some(now) = now else { return false };
        let last = before.replace(Arc::clone(now));
        last.is_none_or(|last| !weft_intent::plan::reads_the_same(&last, now))
    };
    snapshots.wait_for(differs).await.ok()?.clone()
}
