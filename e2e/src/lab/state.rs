//! What is remembered of a lab beside its processes: one directory, `/run/weft-lab/NAME`, with `lab.json` in it.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use super::machine::Machine;
use super::process::Process;
use super::runtime::PodRecord;
use super::spec::LabSpec;

const DIR: &str = "/run/weft-lab";
/// Names another directory for labs.
const DIR_ENV: &str = "WEFT_LAB_DIR";
const FILE: &str = "lab.json";

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct State {
    pub(super) name: String,
    pub(super) spec: LabSpec,
    /// Without it the lab goes when its owner does.
    pub(super) kept: bool,
    owner: Process,
    pub(super) machines: Vec<Machine>,
    /// Daemons by machine, agents among them.
    services: BTreeMap<String, Vec<Process>>,
    pub(super) pods: BTreeMap<String, PodRecord>,
}

impl State {
    pub(super) fn new(name: &str, spec: &LabSpec) -> Result<Self> {
        Ok(Self {
            name: name.to_owned(),
            spec: spec.clone(),
            kept: false,
            owner: Process::current()?,
            machines: Vec::new(),
            services: BTreeMap::new(),
            pods: BTreeMap::new(),
        })
    }

    /// `None` where there is no lab.
    pub(super) fn load(dir: &Path) -> Result<Option<Self>> {
        let path = dir.join(FILE);
        match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).with_context(|| path.display().to_string()).map(Some),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| path.display().to_string()),
        }
    }

    pub(super) fn save(&self, dir: &Path) -> Result<()> {
        let temporary = dir.join(".lab.json");
        fs::write(&temporary, serde_json::to_vec_pretty(self)?)?;
        fs::rename(&temporary, dir.join(FILE)).with_context(|| dir.display().to_string())
    }

    pub(super) fn services(&self, machine: &str) -> impl Iterator<Item = Process> {
        self.services.get(machine).cloned().unwrap_or_default().into_iter()
    }

    pub(super) fn replace_services(&mut self, machine: &str, daemons: Vec<Process>) {
        self.services.insert(machine.to_owned(), daemons);
    }

    fn abandoned(&self) -> bool {
        !self.kept && !self.owner.alive()
    }
}

pub(super) fn dir(name: &str) -> PathBuf {
    root().join(name)
}

/// Makes the directory; it is an error when a lab has it.
pub(super) fn claim(name: &str) -> Result<PathBuf> {
    let plain = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    ensure!(plain && (1..=40).contains(&name.len()), "{name:?}: a lab's name has 1-40 of a-z, 0-9 and -");
    let dir = dir(name);
    fs::create_dir_all(root())?;
    match fs::create_dir(&dir) {
        Ok(()) => Ok(dir),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            bail!("lab {name} exists; `weft-e2e lab down --name {name}` removes it")
        }
        Err(error) => Err(error).with_context(|| dir.display().to_string()),
    }
}

/// Every lab, and whether its owner left it behind. One without a readable state is being made right now.
pub(super) fn all() -> Result<Vec<(String, bool)>> {
    let entries = match fs::read_dir(root()) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut labs = Vec::new();
    for entry in entries {
        let entry = entry?;
        let abandoned = matches!(State::load(&entry.path()), Ok(Some(state)) if state.abandoned());
        labs.push((entry.file_name().to_string_lossy().into_owned(), abandoned));
    }
    labs.sort();
    Ok(labs)
}

/// Whether there was anything.
pub(super) fn remove(dir: &Path) -> Result<bool> {
    if let Ok(Some(state)) = State::load(dir) {
        // All at once: the kernel takes a while to end each.
        state.machines.iter().try_for_each(|machine| machine.init.signal(Signal::SIGKILL))?;
        state.machines.iter().try_for_each(|machine| machine.init.kill())?;
    }
    match fs::remove_dir_all(dir) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).with_context(|| dir.display().to_string()),
    }
}

fn root() -> PathBuf {
    std::env::var_os(DIR_ENV).map_or_else(|| DIR.into(), PathBuf::from)
}
