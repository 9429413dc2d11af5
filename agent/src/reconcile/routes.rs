//! The only writer of our kernel routes.
//!
//! In: our pod CIDRs, the speaker's choices, and what the kernel says happened. Out: routes, and a [`RouteStatus`].
//!
//! Nothing is written before the pod CIDRs are known. Routes that an earlier agent left stay until the speaker has
//! converged. Drift is repaired at once, but not more often than [`REPAIR_INTERVAL`] allows; the table is read only at
//! start, and when links or addresses change, because the kernel drops IPv4 routes of a link without a word.

mod convergence;
mod dirty;
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use ipnetwork::IpNetwork;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};
use tracing::{Instrument as _, debug, info, warn};
use weft_api::control::Problem;
use weft_bgp::net::{FibEvent, FibStream};
use weft_bgp::types::Change;

use self::convergence::Convergence;
use self::table::Work;
use crate::fib::{Hop, KernelRoute, Target};
use crate::kernel::monitor::{Event, Monitor};
use crate::kernel::route::RouteSocket;
use crate::plan::routes::{self, Table, is_pod_route};
use crate::supervise::Supervisor;

/// Between two readings of the table; plus a multiple of what the reading took.
const REPAIR_INTERVAL: Duration = Duration::from_millis(200);
/// Routes that the kernel refused are tried again after so long, if nothing else happens.
const RETRY: Duration = Duration::from_secs(5);
/// A link that is down for so long takes the sessions over it with it; a shorter bounce need not.
const LINK_GRACE: Duration = Duration::from_secs(1);
/// Commands that wait; senders wait beyond.
const MAILBOX: usize = 16;
/// Notifications that are taken in one go, when others write many routes.
const EVENTS: usize = 1024;

/// How far the kernel's routes are what we want.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteStatus {
    /// The speaker has heard out the peers that are up, and all that could be installed is.
    pub settled: bool,
    pub ipv4: u32,
    pub ipv6: u32,
    /// Times that somebody else changed our routes.
    pub drift: u64,
    /// Conflicts and refusals, the first of each kind.
    pub problems: BTreeSet<Problem>,
    /// The links by which pods' packets leave, with their MTU where it has changed. `None`: not known yet.
    pub uplinks: Option<BTreeMap<u32, Option<u32>>>,
}

#[derive(Debug)]
enum Command {
    Own(Vec<IpNetwork>, BTreeSet<IpAddr>),
    Listed,
    Speaker(FibStream),
    Installed(Option<IpNetwork>, oneshot::Sender<Vec<(IpNetwork, Target)>>),
}

/// Speaks to the task.
#[derive(Clone, Debug)]
pub struct RouteHandle {
    commands: mpsc::Sender<Command>,
    status: watch::Receiver<RouteStatus>,
    pods: watch::Receiver<BTreeSet<IpNetwork>>,
    pod_routes: Arc<Notify>,
    addresses: Arc<Notify>,
}

impl RouteHandle {
    /// Our pod CIDRs, and our peers. The first call lets the work begin.
    pub async fn set_own(&self, own: Vec<IpNetwork>, peers: BTreeSet<IpAddr>) {
        // The task lives as long as its handles.
        let _ = self.commands.send(Command::Own(own, peers)).await;
    }

    /// The peers are those that the datastore has. Until then no speaker, converged or not, has the last word about what
    /// an earlier agent left: it may lack peers.
    pub async fn set_listed(&self) {
        let _ = self.commands.send(Command::Listed).await;
    }

    /// A speaker has started; what an earlier one chose stays until this one has converged.
    pub async fn follow(&self, fib: FibStream) {
        let _ = self.commands.send(Command::Speaker(fib)).await;
    }

    /// What the kernel holds for us, for exactly this prefix or for all.
    pub async fn installed(&self, prefix: Option<IpNetwork>) -> Vec<(IpNetwork, Target)> {
        let (reply, answer) = oneshot::channel();
        let _ = self.commands.send(Command::Installed(prefix, reply)).await;
        answer.await.unwrap_or_default()
    }

    pub fn status(&self) -> watch::Receiver<RouteStatus> {
        self.status.clone()
    }

    /// The pods of this node by their routes, which outlive an agent as the pods do.
    pub fn pods(&self) -> watch::Receiver<BTreeSet<IpNetwork>> {
        self.pods.clone()
    }

    /// Notified when a route to a pod is gone: perhaps its owner, the CNI server, did not want that.
    pub fn pod_routes_lost(&self) -> Arc<Notify> {
        Arc::clone(&self.pod_routes)
    }

    /// Notified when an address of the node may have come or gone.
    pub fn addresses_changed(&self) -> Arc<Notify> {
        Arc::clone(&self.addresses)
    }
}

/// Starts the task, in the current network namespace and tokio runtime. `lost` hears of nexthops whose link stays down.
/// Says whether an earlier agent left routes.
pub async fn spawn(tasks: &Supervisor, lost: mpsc::Sender<IpAddr>) -> io::Result<(RouteHandle, bool)> {
    let (socket, connection) = RouteSocket::open()?;
    spawn_over(tasks, socket, connection, lost).await
}

async fn spawn_over(
    tasks: &Supervisor,
    socket: RouteSocket,
    connection: impl Future<Output = ()> + Send + 'static,
    lost: mpsc::Sender<IpAddr>,
) -> io::Result<(RouteHandle, bool)> {
    let monitor = Monitor::open()?;
    tasks.task("route socket", connection);
    let have = socket.dump(Table::insert).await?;
    let restarting = !have.ours.is_empty();
    info!(adopted = have.ours.len(), "kernel routes read");
    let (commands, mailbox) = mpsc::channel(MAILBOX);
    let (publish, status) = watch::channel(RouteStatus::default());
    let (publish_pods, pods) = watch::channel(have.pods.clone());
    let (pod_routes, addresses) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let task = Task {
        socket,
        work: Work::new(have),
        fib: None,
        convergence: Convergence::default(),
        publish,
        publish_pods,
        lost,
        lost_since: BTreeMap::new(),
        pod_routes: Arc::clone(&pod_routes),
        addresses: Arc::clone(&addresses),
        not_before: Instant::now(),
    };
    tasks.task("routes", task.run(mailbox, monitor).instrument(super::span("routes")));
    Ok((RouteHandle { commands, status, pods, pod_routes, addresses }, restarting))
}

struct Task {
    socket: RouteSocket,
    work: Work,
    fib: Option<FibStream>,
    convergence: Convergence,
    publish: watch::Sender<RouteStatus>,
    publish_pods: watch::Sender<BTreeSet<IpNetwork>>,
    lost: mpsc::Sender<IpAddr>,
    /// Nexthops whose link went down a moment ago.
    lost_since: BTreeMap<IpAddr, Instant>,
    pod_routes: Arc<Notify>,
    addresses: Arc<Notify>,
    /// The table is not read again before.
    not_before: Instant,
}

impl Task {
    async fn run(mut self, mut mailbox: mpsc::Receiver<Command>, mut monitor: Monitor) {
        let mut wake: Option<Instant> = None;
        loop {
            let lost = self.lost_since.values().map(|since| *since + LINK_GRACE);
            let deadline = wake.into_iter().chain(lost).chain(self.convergence.deadline()).min();
            tokio::select! {
                command = mailbox.recv() => match command {
                    Some(command) => self.handle_command(command),
                    None => return,
                },
                event = next_change(&mut self.fib) => self.handle_fib(event),
                event = monitor.next() => {
                    if let Err(error) = self.handle_events(event, &mut monitor) {
                        return warn!(%error, "netlink notifications ended");
                    }
                }
                () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                    self.report_lost();
                    if self.convergence.take_due(Instant::now()) {
                        self.work.converge();
                    }
                    if wake.is_some_and(|wake| wake <= Instant::now()) {
                        wake = None;
                        self.work.retry();
                    }
                }
            }
            if self.work.is_started() && !self.work.is_idle() {
                wake = self.pass().await;
            }
            self.publish();
        }
    }

    fn handle_command(&mut self, command: Command) {
        match command {
            Command::Own(own, peers) => {
                self.work.set_own(own);
                self.work.set_peers(peers);
            }
            Command::Listed => self.convergence.set_listed(Instant::now()),
            Command::Speaker(fib) => {
                self.fib = Some(fib);
                self.convergence.restart(Instant::now());
                self.work.restart();
            }
            Command::Installed(prefix, reply) => drop(reply.send(self.work.installed(prefix))),
        }
    }

    fn handle_fib(&mut self, event: Option<FibEvent>) {
        match event {
            Some(FibEvent::Changes(changes)) => {
                for Change { prefix, nexthops } in changes {
                    debug!(%prefix, ?nexthops, "route chosen");
                    self.work.learn(prefix, nexthops);
                }
            }
            Some(FibEvent::Settled) => {
                info!(routes = self.work.learned(), "bgp settled");
                self.work.settled = true;
                self.publish();
            }
            Some(FibEvent::Converged) => {
                info!(routes = self.work.learned(), "bgp converged");
                if self.convergence.converge(Instant::now()) {
                    self.work.converge();
                }
            }
            // Its successor will tell us everything again.
            None => self.fib = None,
        }
    }

    /// The first, and those that wait behind it.
    fn handle_events(&mut self, first: io::Result<Event>, monitor: &mut Monitor) -> io::Result<()> {
        self.handle_event(first?);
        for _ in 1..EVENTS {
            match monitor.next().now_or_never() {
                Some(event) => self.handle_event(event?),
                None => break,
            }
        }
        Ok(())
    }

    fn handle_event(&mut self, event: Event) {
        if let Event::Link { index, up: false, .. } = &event {
            for address in self.work.directly_on(*index) {
                self.lost_since.entry(address).or_insert_with(Instant::now);
            }
        }
        if matches!(&event, Event::Route { route, gone: true, .. } if is_pod_route(route)) {
            self.pod_routes.notify_one();
        }
        if matches!(&event, Event::Address { .. } | Event::Lost) {
            self.addresses.notify_one();
        }
        self.work.handle_event(event, self.socket.port());
    }

    fn report_lost(&mut self) {
        let due = |since: Instant| since + LINK_GRACE <= Instant::now();
        let overdue: Vec<IpAddr> =
            self.lost_since.iter().filter(|(_, since)| due(**since)).map(|(address, _)| *address).collect();
        for address in overdue {
            self.lost_since.remove(&address);
            if !self.work.is_on_a_link(address) {
                // Full: so many links went down that hold timers will have to do.
                let _ = self.lost.try_send(address);
            }
        }
    }

    /// Does what is to be done, or says when.
    async fn pass(&mut self) -> Option<Instant> {
        let is_due = Instant::now() >= self.not_before;
        if self.work.needs_reading() && is_due {
            let begun = Instant::now();
            if let Err(error) = self.read().await {
                warn!(%error, "kernel routes cannot be read");
                self.work.read_again();
            }
            self.not_before = Instant::now() + REPAIR_INTERVAL + begun.elapsed() * 4;
        }
        if let Err(error) = self.write().await {
            warn!(%error, "kernel routes cannot be written");
            self.work.read_again();
        }
        match (self.work.needs_reading(), self.work.has_failures()) {
            (true, _) => Some(self.not_before),
            (false, true) => Some(Instant::now() + RETRY),
            (false, false) => None,
        }
    }

    async fn read(&mut self) -> io::Result<()> {
        if self.work.observe {
            self.work.observe = false;
            self.work.observed(self.socket.dump(Table::insert).await?);
        }
        let mut reach = BTreeMap::new();
        for nexthop in &self.work.lookups {
            reach.insert(*nexthop, self.resolve(*nexthop).await?);
        }
        self.work.reached(reach);
        Ok(())
    }

    async fn resolve(&self, nexthop: IpAddr) -> io::Result<BTreeSet<Hop>> {
        let found: Option<KernelRoute> = self.socket.lookup(nexthop).await?;
        Ok(routes::resolve(nexthop, found.as_ref()))
    }

    async fn write(&mut self) -> io::Result<()> {
        while let Some(prefixes) = self.work.next_slice() {
            for nexthop in self.work.unresolved(&prefixes) {
                let hops = self.resolve(nexthop).await?;
                self.work.resolved(nexthop, hops);
            }
            let (want, have) = self.work.sides(&prefixes);
            let changes = routes::diff(&want, &have);
            if changes.is_empty() {
                continue;
            }
            let refused = self.socket.apply(&changes).await?;
            info!(changes = changes.len(), refused = refused.len(), "kernel routes written");
            self.work.applied(&changes, &refused);
        }
        Ok(())
    }

    fn publish(&self) {
        self.publish_pods.send_if_modified(|current| {
            let changed = current != self.work.pods();
            if changed {
                current.clone_from(self.work.pods());
            }
            changed
        });
        let status = self.work.status();
        self.publish.send_if_modified(|current| {
            for problem in status.problems.difference(&current.problems) {
                warn!(object = problem.object, error = problem.reason, "route not installed");
            }
            let changed = *current != status;
            *current = status;
            changed
        });
    }
}

async fn next_change(fib: &mut Option<FibStream>) -> Option<FibEvent> {
    match fib {
        Some(fib) => fib.next().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
