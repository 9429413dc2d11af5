//! Every task and thread that is to last as long as the agent, by name: when one of them ends, so does the agent.
//!
//! In: work. Out: [`Ends`]. An agent that has lost a part would look ready and do nothing; one that exits is started again,
//! and forwarding goes on meanwhile. Clippy bans the other ways to start a task or a thread.

use std::future::Future;
use std::io;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// The first ends are the ones that matter; more than there are parts never wait.
const MAX_ENDS: usize = 64;
/// What ends with a part drags others along, and some may be heard of before it.
const GATHER: Duration = Duration::from_millis(100);

/// Starts what is to last.
#[derive(Clone, Debug)]
pub struct Supervisor {
    ends: mpsc::Sender<End>,
}

/// Hears of the parts that ended.
#[derive(Debug)]
pub struct Ends(mpsc::Receiver<End>);

/// A part of the agent is gone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct End {
    /// The cause sorts before its consequences.
    how: How,
    part: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum How {
    Panicked,
    Ended,
}

pub fn supervisor() -> (Supervisor, Ends) {
    let (ends, ended) = mpsc::channel(MAX_ENDS);
    (Supervisor { ends }, Ends(ended))
}

impl Supervisor {
    #[expect(clippy::disallowed_methods, reason = "the one place where tasks that last are started")]
    pub fn task(&self, part: impl Into<String>, work: impl Future<Output = ()> + Send + 'static) {
        let guard = self.guard(part.into());
        tokio::spawn(async move {
            let _guard = guard;
            work.await;
        });
    }

    #[expect(clippy::disallowed_methods, reason = "the one place where threads are started")]
    pub fn thread(&self, part: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let guard = self.guard(part.to_owned());
        let work = move || {
            let _guard = guard;
            work();
        };
        std::thread::Builder::new().name(format!("weft-{part}")).spawn(work).map(drop)
    }

    fn guard(&self, part: String) -> Guard {
        Guard { part, ends: self.ends.clone() }
    }
}

/// For work that ends by itself, and whose panic harms nobody but who waits for it: a call, a connection.
#[expect(clippy::disallowed_methods, reason = "the one place where tasks that end are started")]
pub fn brief<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    tokio::spawn(work)
}

impl Ends {
    /// The names of all, when all have ended and nobody can start more.
    #[cfg(test)]
    pub(crate) fn all(mut self) -> std::collections::BTreeSet<String> {
        std::iter::from_fn(|| self.0.blocking_recv()).map(|end| end.part).collect()
    }

    /// Waits for the first, and says in words which parts are gone: never while all are there.
    pub async fn first(&mut self) -> String {
        let Some(first) = self.0.recv().await else { return std::future::pending().await };
        tokio::time::sleep(GATHER).await;
        let mut ends = vec![first];
        while let Ok(end) = self.0.try_recv() {
            ends.push(end);
        }
        ends.sort();
        ends.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    }
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let how = match self.how {
            How::Panicked => "panicked",
            How::Ended => "ended",
        };
        write!(f, "{} {how}", self.part)
    }
}

/// Dropped with the work, however that ends.
struct Guard {
    part: String,
    ends: mpsc::Sender<End>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        let how = if std::thread::panicking() { How::Panicked } else { How::Ended };
        // Full: the agent is about to end. Closed: it has.
        let _ = self.ends.try_send(End { how, part: std::mem::take(&mut self.part) });
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn a_task_that_panics_or_ends_is_named() {
        let (tasks, mut ends) = supervisor();
        tasks.task("planner", async { panic!("injected") });
        assert_eq!(ends.first().await, "planner panicked");
        tasks.task(format!("watch of {}", "Pod"), async {});
        assert_eq!(ends.first().await, "watch of Pod ended");
    }

    #[tokio::test]
    async fn a_thread_that_panics_or_ends_is_named() {
        let (tasks, mut ends) = supervisor();
        tasks.thread("policy", || panic!("injected")).unwrap();
        assert_eq!(ends.first().await, "policy panicked");
        tasks.thread("cni", || {}).unwrap();
        assert_eq!(ends.first().await, "cni ended");
    }

    #[tokio::test]
    async fn the_cause_is_named_before_what_it_drags_along() {
        let (tasks, mut ends) = supervisor();
        let (held, gone) = oneshot::channel::<()>();
        tasks.task("reader", async { drop(gone.await) });
        tasks.task("writer", async {
            let _held = held;
            panic!("injected");
        });
        assert_eq!(ends.first().await, "writer panicked; reader ended");
    }

    #[tokio::test]
    async fn nothing_is_said_while_all_parts_run() {
        let (tasks, mut ends) = supervisor();
        tasks.task("planner", std::future::pending());
        let harmed: Result<(), _> = brief(async { panic!("harms only who waits") }).await;
        assert!(harmed.is_err());
        assert_eq!(ends.first().now_or_never(), None);
    }
}
