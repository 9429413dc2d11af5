//! Clusters out of network namespaces: nodes in racks, top-of-rack routers that run real daemons, a spine, a host outside.
//!
//! [`Lab::raise`] builds what a [`LabSpec`] says and [`Lab::down`] removes it. Everything of a lab is either a process
//! below one of its machines (see [`machine`]) or a file in its directory, so removing is: kill the machines, remove the
//! directory. A lab goes with its owner, also with an owner that was killed, unless [`Lab::keep`] was called; its
//! directory then remains and [`Lab::sweep`] takes it.

mod agent;
mod cabling;
mod machine;
mod process;
mod router;
mod runtime;
mod spec;
mod state;
mod store;

use std::io::{PipeReader, PipeWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, bail};

pub use machine::{Machine, init, launch};
pub use process::Process;
pub use router::Router;
pub use runtime::{Pod, Sandbox};
pub use spec::{
    CONTROL, Dual, FABRIC_CIDRS, LabSpec, Node, NodeAsn, OUTSIDE, OUTSIDE_CIDRS, POD_CIDRS, Plan, RackSpec,
    RouterKind, SPINE, Tor, Uplink,
};
pub use store::Store;
pub(crate) use store::shared_objects;

use crate::net::Namespace;
use state::State;

/// Set to keep the lab of a test that failed, to look at it.
const KEEP_FAILED_ENV: &str = "WEFT_LAB_KEEP_FAILED";

/// The programs under test, found where they were built.
#[derive(Clone, Debug)]
pub struct Programs {
    /// This program: it is also the first process of each machine.
    pub weft_e2e: PathBuf,
    /// Holds `weft-agent`, `weft-cni` and `weftctl`.
    pub dir: PathBuf,
}

impl Programs {
    /// In `WEFT_BIN_DIR`, else beside `weft_e2e`.
    pub fn beside(weft_e2e: &Path) -> Result<Self> {
        let dir = match std::env::var_os("WEFT_BIN_DIR") {
            Some(dir) => PathBuf::from(dir),
            None => weft_e2e.parent().context("the folder of weft-e2e")?.to_owned(),
        };
        Ok(Self { weft_e2e: weft_e2e.to_owned(), dir })
    }

    pub fn path(&self, name: &str) -> Result<PathBuf> {
        let path = self.dir.join(name);
        if path.exists() {
            Ok(path)
        } else {
            bail!("{} is missing: build it first (`make bin`)", path.display())
        }
    }
}

#[derive(Debug)]
pub struct Lab {
    dir: PathBuf,
    plan: Plan,
    programs: Programs,
    state: Mutex<State>,
    /// While its writing end is open the machines stay; its reading end is for machines that boot later.
    lifeline: Option<(PipeReader, PipeWriter)>,
}

impl Lab {
    /// Builds machines, cables and routers, and fills the datastore; agents are started by [`Lab::start_agent`].
    pub fn raise(name: &str, spec: &LabSpec, programs: &Programs) -> Result<Self> {
        spec.check()?;
        Self::sweep()?;
        let dir = state::claim(name)?;
        let lab = Self {
            state: Mutex::new(State::new(name, spec)?),
            plan: spec.plan(),
            programs: programs.clone(),
            lifeline: Some(std::io::pipe()?),
            dir,
        };
        lab.save()?;
        lab.boot()?;
        cabling::connect(&lab)?;
        lab.start_routers()?;
        lab.describe(spec)?;
        lab.save()?;
        Ok(lab)
    }

    /// A lab that somebody else raised and kept.
    pub fn attach(name: &str, programs: &Programs) -> Result<Self> {
        let dir = state::dir(name);
        let state =
            State::load(&dir)?.with_context(|| format!("no lab {name}; `weft-e2e lab up` makes one"))?;
        let plan = state.spec.plan();
        Ok(Self { dir, plan, programs: programs.clone(), state: Mutex::new(state), lifeline: None })
    }

    /// Lets the lab outlive its owner.
    pub fn keep(mut self) -> Result<()> {
        self.let_go()
    }

    fn let_go(&mut self) -> Result<()> {
        self.state().kept = true;
        self.save()?;
        if let Some((_, mut lifeline)) = self.lifeline.take() {
            let machines = self.state().machines.len();
            lifeline.write_all(&machine::LINGER.repeat(machines))?;
        }
        Ok(())
    }

    /// Removes the lab of this name, whatever is left of it. Nothing there is success.
    pub fn down(name: &str) -> Result<bool> {
        state::remove(&state::dir(name))
    }

    /// Removes what owners left behind that are no longer there.
    pub fn sweep() -> Result<()> {
        state::all()?
            .into_iter()
            .filter(|(_, abandoned)| *abandoned)
            .try_for_each(|(name, _)| Self::down(&name).map(drop))
    }

    pub fn names() -> Result<Vec<String>> {
        Ok(state::all()?.into_iter().map(|(name, _)| name).collect())
    }

    /// Where everything of this lab is, at the same path inside its machines.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn has_control_plane(&self) -> bool {
        self.state().spec.control_plane
    }

    pub fn name(&self) -> String {
        self.state().name.clone()
    }

    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    pub fn programs(&self) -> &Programs {
        &self.programs
    }

    pub fn store(&self) -> Store {
        Store::new(self.dir.join("store"))
    }

    pub fn node(&self, name: &str) -> Result<&Node> {
        self.plan.nodes.iter().find(|node| node.name == name).with_context(|| format!("no node {name}"))
    }

    pub fn tor(&self, name: &str) -> Result<&Tor> {
        self.plan.tors.iter().find(|tor| tor.name == name).with_context(|| format!("no router {name}"))
    }

    pub fn machine(&self, name: &str) -> Result<Machine> {
        let state = self.state();
        let found = state.machines.iter().find(|machine| machine.name == name).cloned();
        found.with_context(|| format!("no machine {name} in lab {}", state.name))
    }

    pub fn machines(&self) -> Vec<Machine> {
        self.state().machines.clone()
    }

    pub fn namespace(&self, machine: &str) -> Result<Namespace> {
        self.machine(machine)?.namespace()
    }

    /// Runs a command on a machine, its words separated by spaces.
    pub fn run(&self, machine: &str, command: &str) -> Result<String> {
        self.machine(machine)?.run(command.split_whitespace())
    }

    pub fn run_with_input(&self, machine: &str, command: &str, input: &str) -> Result<String> {
        self.machine(machine)?.run_with_input(command.split_whitespace(), input)
    }

    /// Runs a shell's line on a machine, with our programs in its path.
    pub fn shell(&self, machine: &str, line: &str) -> Result<String> {
        let path = format!("PATH={}:$PATH; {line}", self.programs.dir.display());
        self.machine(machine)?.run(["sh", "-c", &path])
    }

    /// Asks the spine or a top-of-rack router in the words of its own command line.
    pub fn ask(&self, router: &str, question: &str) -> Result<String> {
        let kind = self.tor(router).map_or(RouterKind::Bird, |tor| tor.kind);
        Router::ask(kind, &self.machine(router)?, question)
    }

    /// Runs a program with the caller's terminal on a machine, or in a pod: `node1` or `NAMESPACE/POD`.
    pub fn exec(&self, place: &str, command: &mut Command) -> Result<i32> {
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{}:{path}:/usr/sbin:/sbin", self.programs.dir.display()));
        if place.contains('/') {
            let pod = self.pod(place)?;
            return self.machine(pod.node())?.exec(Some(pod.namespace()), command);
        }
        self.machine(place)?.exec(None, command)
    }

    /// A power cut: the daemons die, and every link goes dark at both ends.
    pub fn power_off(&self, tor: &str) -> Result<()> {
        self.state().services(tor).try_for_each(|daemon| daemon.kill())?;
        cabling::set_links(&self.machine(tor)?, "down")
    }

    pub fn power_on(&self, tor: &str) -> Result<()> {
        cabling::set_links(&self.machine(tor)?, "up")?;
        cabling::address_tor(self, self.tor(tor)?)?;
        self.start_router(tor)
    }

    /// The daemons die and start again; links, and what the kernel forwards, stay.
    pub fn restart_router(&self, tor: &str) -> Result<()> {
        self.state().services(tor).try_for_each(|daemon| daemon.kill())?;
        self.start_router(tor)
    }

    /// Pulls the cable between a router and the spine, or puts it back.
    pub fn plug_spine(&self, tor: &str, plugged: bool) -> Result<()> {
        cabling::plug_spine(self, self.tor(tor)?, plugged)
    }

    fn start_router(&self, tor: &str) -> Result<()> {
        let daemons = self.router(self.tor(tor)?).start(&self.machine(tor)?)?;
        self.state().replace_services(tor, daemons);
        self.save()
    }

    /// Ends everything on a node and boots it, with its cables and addresses. Its directory stays, what was in memory does
    /// not. Only the owner of a lab can.
    pub fn reboot(&self, node: &str) -> Result<()> {
        self.machine(node)?.init.kill()?;
        self.boot_machine(node)?;
        cabling::reconnect(self, self.node(node)?)
    }

    fn boot(&self) -> Result<()> {
        let names = self.plan.nodes.iter().map(|node| node.name.as_str());
        let names = names.chain(self.plan.tors.iter().map(|tor| tor.name.as_str())).chain([SPINE, OUTSIDE]);
        let names = names.chain(self.has_control_plane().then_some(CONTROL));
        for name in names {
            self.boot_machine(name)?;
        }
        Ok(())
    }

    fn boot_machine(&self, name: &str) -> Result<()> {
        let (lifeline, _) = self.lifeline.as_ref().context("only the owner of a lab boots its machines")?;
        let machine = Machine::boot(&self.programs.weft_e2e, &self.dir, name, lifeline)?;
        {
            let mut state = self.state();
            state.machines.retain(|other| other.name != name);
            state.machines.push(machine);
        }
        self.save()
    }

    fn start_routers(&self) -> Result<()> {
        let routers = self.plan.tors.iter().map(|tor| self.router(tor));
        for router in routers.chain([self.spine_router()]) {
            let daemons = router.start(&self.machine(&router.name)?)?;
            self.state().replace_services(&router.name, daemons);
        }
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn save(&self) -> Result<()> {
        self.state().save(&self.dir)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.lifeline.is_none() {
            return;
        }
        let keep = std::thread::panicking() && std::env::var_os(KEEP_FAILED_ENV).is_some();
        let ended = if keep { self.let_go() } else { state::remove(&self.dir).map(drop) };
        match ended {
            Err(error) => eprintln!("lab {} is not all gone: {error:#}", self.dir.display()),
            Ok(()) if keep => eprintln!("lab kept: `weft-e2e lab status --name {}`", self.name()),
            Ok(()) => {}
        }
    }
}
