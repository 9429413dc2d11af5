//! A page that costs us more than who asks for it: made at most once in a while, and by one at a time.

use std::future::Future;
use std::time::Duration;

use axum::body::Bytes;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// How long a page counts as news. Prometheus comes every 15 s or so, hardly anybody more often than this.
const FRESH: Duration = Duration::from_secs(1);

/// The page that was made last, and when.
#[derive(Debug, Default)]
pub(super) struct Recent(Mutex<Option<(Instant, Bytes)>>);

impl Recent {
    /// What was made a moment before `now`, else what `make` gives. Who comes while another makes it waits for that one's.
    pub(super) async fn page(&self, now: Instant, make: impl Future<Output = String>) -> Bytes {
        let mut last = self.0.lock().await;
        match &*last {
            Some((made, page)) if now.saturating_duration_since(*made) < FRESH => page.clone(),
            _ => last.insert((now, make.await.into())).1.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use futures::future::join_all;
    use tokio::task::yield_now;

    use super::*;

    #[tokio::test]
    async fn a_crowd_makes_one_page_and_who_comes_later_the_next() {
        let (recent, made) = (Recent::default(), AtomicU32::new(0));
        let make = async || {
            let number = made.fetch_add(1, Ordering::Relaxed);
            yield_now().await;
            number.to_string()
        };
        let begun = Instant::now();
        let almost = begun + FRESH - Duration::from_millis(1);
        let pages =
            join_all((0..100).map(|n| recent.page(if n < 50 { begun } else { almost }, make()))).await;
        assert!(pages.iter().all(|page| page == "0") && made.load(Ordering::Relaxed) == 1);
        assert_eq!(recent.page(begun + FRESH, make()).await, "1");
    }
}
