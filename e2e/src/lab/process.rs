//! A process that may outlive the one that started it, named so that a reused pid is never mistaken for it.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::wait;

/// How long the kernel may take to end a process and everything in its pid namespace.
const END: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    pub pid: i32,
    /// Clock ticks from boot to its start: field 22 of `/proc/PID/stat`.
    start: u64,
}

impl Process {
    pub fn find(pid: i32) -> Result<Self> {
        let (_, start) = stat(pid).with_context(|| format!("process {pid} is gone"))?;
        Ok(Self { pid, start })
    }

    pub fn current() -> Result<Self> {
        Self::find(Pid::this().as_raw())
    }

    /// Runs; a zombie does not.
    pub fn alive(&self) -> bool {
        stat(self.pid).is_some_and(|(state, start)| start == self.start && state != 'Z')
    }

    pub fn signal(&self, signal: Signal) -> Result<()> {
        if !self.alive() {
            return Ok(());
        }
        match signal::kill(Pid::from_raw(self.pid), signal) {
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(error) => Err(error).with_context(|| format!("{signal} to process {}", self.pid)),
        }
    }

    pub fn wait_gone(&self, limit: Duration) -> Result<()> {
        wait::until_true(&format!("end of process {}", self.pid), limit, || !self.alive())
    }

    pub fn kill(&self) -> Result<()> {
        self.signal(Signal::SIGKILL)?;
        self.wait_gone(END)
    }
}

/// State and start time.
fn stat(pid: i32) -> Option<(char, u64)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything, so count from the last one.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_killed_child_is_gone_and_its_pid_is_not_mistaken_for_it() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let process = Process::find(i32::try_from(child.id()).unwrap()).unwrap();
        assert!(process.alive());

        process.kill().unwrap();

        assert!(!process.alive());
        child.wait().unwrap();
        let reused = Process { pid: Process::current().unwrap().pid, start: u64::MAX };
        assert!(!reused.alive());
    }
}
