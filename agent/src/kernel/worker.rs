//! A thread with a warm netlink socket, for async callers. One is enough: RTNL serialises its work anyway.

use tokio::sync::{mpsc, oneshot};

use super::rtnl::{Rtnl, RtnlError};

/// Jobs that wait; more callers wait for room.
const QUEUE: usize = 256;

type Job = Box<dyn FnOnce(&mut Rtnl) + Send>;

/// Clones share the thread, which ends with the last of them.
#[derive(Clone, Debug)]
pub struct Worker {
    jobs: mpsc::Sender<Job>,
}

impl Worker {
    /// In the namespace of the calling thread.
    pub fn spawn(name: &str) -> Result<Self, RtnlError> {
        let mut rtnl = Rtnl::open()?;
        let (jobs, mut queue) = mpsc::channel::<Job>(QUEUE);
        let run = move || {
            while let Some(job) = queue.blocking_recv() {
                job(&mut rtnl);
            }
        };
        std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(run)
            .map_err(|_| nix::errno::Errno::EAGAIN)?;
        Ok(Self { jobs })
    }

    /// Runs `job` in turn. It runs to its end even when the caller is dropped meanwhile.
    pub async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Rtnl) -> Result<T, RtnlError> + Send + 'static,
    ) -> Result<T, RtnlError> {
        let (done, outcome) = oneshot::channel();
        let job: Job = Box::new(move |rtnl| drop(done.send(job(rtnl))));
        let gone = || RtnlError::Malformed("the netlink thread has ended".into());
        self.jobs.send(job).await.map_err(|_| gone())?;
        outcome.await.map_err(|_| gone())?
    }
}
