//! A machine of the lab: its own network, mounts, host name and process tree.
//!
//! What makes it is [`launch`] and [`init`], which run inside `weft-e2e machine`: the first unshares the namespaces, the
//! second is the machine's pid 1. So a machine has nothing outside itself: when pid 1 ends, the kernel ends every process
//! in it, and with them go its links, mounts and files. Nothing is ever made in the namespaces of the real machine.
//!
//! Inside, `/run` is an empty tmpfs, and `/etc` and `/opt` are overlays that forget, so that daemons find the paths they
//! are used to (`/etc/bird`, `/run/frr`, `/opt/cni/bin`) and `birdc` and `vtysh` need no flags. The lab's own directory is
//! visible at the same path as outside.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, PipeReader, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

use anyhow::{Context, Result, anyhow, bail, ensure};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, sethostname};
use serde::{Deserialize, Serialize};

use super::process::Process;
use crate::net::Namespace;

/// Where a private `/etc` and `/run` are needed; the rest of the file system is shared, read by programs only.
const PRIVATE: MsFlags = MsFlags::MS_REC.union(MsFlags::MS_PRIVATE);

/// What pid 1 says when the machine can be used.
const READY: &str = "ready\n";

/// What pid 1 reads to stay when its maker goes.
pub(super) const LINGER: &[u8] = b"k";

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Machine {
    pub name: String,
    /// Below the lab's directory: logs and what else belongs to this machine.
    pub dir: PathBuf,
    pub init: Process,
}

impl Machine {
    /// Boots `LAB-NAME`. It lives until `lifeline`'s other end closes, unless [`LINGER`] was written to that.
    pub(super) fn boot(weft_e2e: &Path, lab_dir: &Path, name: &str, lifeline: &PipeReader) -> Result<Self> {
        let dir = lab_dir.join(name);
        fs::create_dir_all(dir.join("run")).with_context(|| dir.display().to_string())?;
        let launcher = Command::new(weft_e2e)
            .args([OsStr::new("machine"), "launch".as_ref(), lab_dir.as_os_str(), name.as_ref()])
            .stdin(lifeline.try_clone()?)
            .stdout(Stdio::piped())
            .stderr(File::create(dir.join("console.log"))?)
            .output()
            .with_context(|| weft_e2e.display().to_string())?;
        if !launcher.status.success() {
            bail!("{name} did not boot: {}", fs::read_to_string(dir.join("console.log"))?.trim());
        }
        let pid = String::from_utf8_lossy(&launcher.stdout).trim().parse()?;
        Ok(Self { name: name.to_owned(), dir, init: Process::find(pid)? })
    }

    pub fn namespace(&self) -> Result<Namespace> {
        Namespace::open(&self.name, &self.proc("ns/net"))
    }

    /// Where a path of this machine is seen from outside.
    pub fn path(&self, inside: &str) -> PathBuf {
        self.proc("root").join(inside.trim_start_matches('/'))
    }

    pub fn write(&self, inside: &str, text: &str) -> Result<()> {
        let path = self.path(inside);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&path, text).with_context(|| format!("{inside} on {}", self.name))
    }

    pub fn read(&self, inside: &str) -> Result<String> {
        fs::read_to_string(self.path(inside)).with_context(|| format!("{inside} on {}", self.name))
    }

    /// Starts a process inside; it ends with the machine at the latest.
    pub fn spawn(&self, command: &mut Command) -> Result<Child> {
        self.spawn_in(None, command)
    }

    /// Starts a process inside that sees the network of `pod` instead of the machine's.
    pub fn spawn_in(&self, pod: Option<&Namespace>, command: &mut Command) -> Result<Child> {
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                self.join()?;
                if let Some(pod) = pod {
                    pod.join()?;
                }
                command.spawn().with_context(|| format!("{:?} on {}", command.get_program(), self.name))
            });
            inside.join().map_err(|_| anyhow!("a thread in {} panicked", self.name))?
        })
    }

    /// Starts a daemon whose output goes to `LOG.log` in [`Machine::dir`].
    pub fn daemon(&self, log: &str, command: &mut Command) -> Result<Process> {
        self.daemon_in(None, log, command)
    }

    /// Starts a daemon in a pod's network.
    pub fn daemon_in(&self, pod: Option<&Namespace>, log: &str, command: &mut Command) -> Result<Process> {
        let output = File::options().append(true).create(true).open(self.dir.join(format!("{log}.log")))?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output).process_group(0);
        let mut child = self.spawn_in(pod, command)?;
        let process = Process::find(i32::try_from(child.id())?)?;
        // Somebody must take its exit status: a pid 1 does not end while the kernel keeps a zombie of its machine.
        thread::spawn(move || child.wait());
        Ok(process)
    }

    /// Runs a command to its end: standard output, or an error with standard error.
    pub fn run<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(&self, words: I) -> Result<String> {
        self.run_with_input(words, "")
    }

    pub fn run_with_input<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(
        &self,
        words: I,
        input: &str,
    ) -> Result<String> {
        let mut words = words.into_iter();
        let mut command = Command::new(words.next().context("an empty command")?);
        command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        finish(self.spawn(&mut command)?, input).with_context(|| format!("{command:?} on {}", self.name))
    }

    /// Replaces the calling program by one inside, with the terminal.
    pub fn exec(&self, pod: Option<&Namespace>, command: &mut Command) -> Result<i32> {
        let status = self.spawn_in(pod, command)?.wait()?;
        Ok(status.code().unwrap_or(1))
    }

    /// Moves the calling thread into the machine; its children become processes of it.
    fn join(&self) -> Result<()> {
        // The mount namespace can only be changed by a thread that shares no working directory with others.
        unshare(CloneFlags::CLONE_FS)?;
        let kinds = [
            ("pid", CloneFlags::CLONE_NEWPID),
            ("uts", CloneFlags::CLONE_NEWUTS),
            ("net", CloneFlags::CLONE_NEWNET),
            ("mnt", CloneFlags::CLONE_NEWNS),
        ];
        let open = |(kind, flag)| Ok((File::open(self.proc(&format!("ns/{kind}")))?, flag));
        // All are opened first: behind the mount namespace there is another /proc.
        let files: Vec<(File, CloneFlags)> = kinds
            .into_iter()
            .map(open)
            .collect::<Result<_>>()
            .with_context(|| format!("{} is down", self.name))?;
        for (file, flag) in files {
            setns(file, flag).with_context(|| format!("entering {}", self.name))?;
        }
        Ok(())
    }

    fn proc(&self, rest: &str) -> PathBuf {
        format!("/proc/{}/{rest}", self.init.pid).into()
    }
}

/// Feeds `input`, waits, and turns a failure into an error with what the program said.
pub(super) fn finish(mut child: Child, input: &str) -> Result<String> {
    if let Some(mut stdin) = child.stdin.take() {
        // A program that does not read its input closes the pipe; its exit status tells whether that matters.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output()?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(stdout);
    }
    bail!("{}: {}{}", output.status, String::from_utf8_lossy(&output.stderr).trim(), stdout.trim())
}

/// `weft-e2e machine launch DIR NAME`: unshares, starts pid 1, tells its pid once it is ready, and leaves.
pub fn launch(lab_dir: &Path, name: &str) -> Result<()> {
    unshare(
        CloneFlags::CLONE_NEWNET
            | CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWUTS
            | CloneFlags::CLONE_NEWPID,
    )
    .context("namespaces; are you root?")?;
    let mut init = Command::new(std::env::current_exe()?)
        .args([OsStr::new("machine"), "init".as_ref(), lab_dir.as_os_str(), name.as_ref()])
        .stdout(Stdio::piped())
        .spawn()?;
    let mut said = String::new();
    BufReader::new(init.stdout.take().context("a pipe")?).read_line(&mut said)?;
    ensure!(said == READY, "pid 1 ended early");
    println!("{}", init.id());
    Ok(())
}

/// `weft-e2e machine init DIR NAME`: the first process of a machine.
pub fn init(lab_dir: &Path, name: &str) -> Result<()> {
    // Blocked before any thread exists, so that every thread inherits it and only the wait below takes it.
    let mut children = SigSet::empty();
    children.add(Signal::SIGCHLD);
    children.thread_block()?;

    let lab = lab_dir.file_name().and_then(OsStr::to_str).context("the lab's name")?;
    sethostname(format!("weft-{lab}-{name}"))?;
    private_mounts(lab_dir, name)?;
    default_sysctls()?;
    print!("{READY}");
    // Not through the buffer of `Stdin`, which would take what is meant for other machines.
    let lifeline = File::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    thread::spawn(|| {
        if !stay_for(lifeline) {
            std::process::exit(0);
        }
    });
    loop {
        children.wait()?;
        // Orphans of this machine: one signal may stand for several.
        while matches!(waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)), Ok(ended) if ended != WaitStatus::StillAlive)
        {
        }
    }
}

/// Blocks until the maker lets go; whether the machine stays.
fn stay_for(mut lifeline: impl Read) -> bool {
    matches!(lifeline.read(&mut [0; LINGER.len()]), Ok(1..))
}

fn private_mounts(lab_dir: &Path, name: &str) -> Result<()> {
    let none = None::<&str>;
    mount(none, "/", none, PRIVATE, none).context("private mounts")?;
    let run = lab_dir.join(name).join("run");
    mount(Some("tmpfs"), &run, Some("tmpfs"), MsFlags::empty(), Some("mode=755"))
        .context("tmpfs for /run")?;
    // The lab's directory may itself be below /run, so it is put in place before the old /run goes out of sight.
    if let Ok(below) = lab_dir.strip_prefix("/run") {
        let inside = run.join(below);
        fs::create_dir_all(&inside)?;
        mount(Some(lab_dir), &inside, none, MsFlags::MS_BIND, none).context("the lab's directory")?;
    }
    mount(Some(&run), "/run", none, MsFlags::MS_MOVE, none).context("/run")?;
    for dir in ["etc", "opt"] {
        let layer = |name: &str| format!("/run/overlay/{dir}/{name}");
        fs::create_dir_all(layer("upper"))?;
        fs::create_dir_all(layer("work"))?;
        let layers = format!("lowerdir=/{dir},upperdir={},workdir={}", layer("upper"), layer("work"));
        mount(Some("overlay"), &*format!("/{dir}"), Some("overlay"), MsFlags::empty(), Some(&*layers))
            .with_context(|| format!("overlay on /{dir}"))?;
    }
    mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), none).context("/proc")?;
    fs::create_dir_all("/etc/cni/net.d")?;
    fs::create_dir_all("/run/netns")?;
    Ok(())
}

/// No address waits until it is known to be nobody else's.
fn default_sysctls() -> Result<()> {
    for scope in ["all", "default"] {
        let name = format!("/proc/sys/net/ipv6/conf/{scope}/accept_dad");
        fs::write(&name, "0").context(name)?;
    }
    Ok(())
}
