//! Two network namespaces with a cable between them: ours on one side, somebody's router on the other.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};

/// Runs a command and gives what it printed; panics when it fails.
pub(crate) fn run(command: &str) -> String {
    let output = try_run(command);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{command}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

pub(crate) fn try_run(command: &str) -> Output {
    Command::new("sh").args(["-c", command]).output().expect("sh runs")
}

/// Waits for a condition; panics with `what` and what `explain` has to say when it does not come true.
#[expect(clippy::disallowed_methods, reason = "a deadline of the test's own")]
pub(crate) fn wait_for(
    what: &str,
    limit: Duration,
    mut done: impl FnMut() -> bool,
    explain: impl Fn() -> String,
) {
    let end = Instant::now() + limit;
    while !done() {
        assert!(Instant::now() < end, "waited {limit:?} for {what}: {}", explain());
        thread::sleep(Duration::from_millis(50));
    }
}

/// Enters a namespace with this thread, which must not be used for anything else afterwards.
pub(crate) fn enter(netns: &str) {
    let netns = File::open(format!("/run/netns/{netns}")).expect("made by a lab");
    setns(netns, CloneFlags::CLONE_NEWNET).expect("root");
}

/// Removed when dropped, with everything that runs in it.
pub(crate) struct Lab {
    pub(crate) ours: String,
    pub(crate) theirs: String,
    /// For the router's configuration and sockets.
    pub(crate) dir: PathBuf,
}

impl Lab {
    /// 10.9.0.1 and fd09::1 are ours, 10.9.0.2 and fd09::2 theirs.
    pub(crate) fn new(name: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let id = format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let lab = Self {
            ours: format!("weft-io-{id}-us"),
            theirs: format!("weft-io-{id}-{name}"),
            dir: std::env::temp_dir().join(format!("weft-interop-{id}-{name}")),
        };
        std::fs::create_dir_all(&lab.dir).expect("a temporary directory");
        let (ours, theirs) = (&lab.ours, &lab.theirs);
        run(&format!(
            "ip netns add {ours} && ip netns add {theirs} &&
             ip -n {ours} link add cable type veth peer name cable netns {theirs} &&
             ip -n {ours} link set lo up && ip -n {theirs} link set lo up &&
             ip -n {ours} link set cable up && ip -n {theirs} link set cable up &&
             ip -n {ours} address add 10.9.0.1/24 dev cable && ip -n {theirs} address add 10.9.0.2/24 dev cable &&
             ip -n {ours} address add fd09::1/64 dev cable nodad && ip -n {theirs} address add fd09::2/64 dev cable nodad"
        ));
        lab
    }

    /// Writes a file for the router and gives its path.
    pub(crate) fn file(&self, name: &str, text: &str) -> String {
        let path = self.dir.join(name);
        std::fs::write(&path, text).expect("the directory is ours");
        path.display().to_string()
    }

    /// Runs a command beside the router.
    pub(crate) fn there(&self, command: &str) -> String {
        run(&format!("ip netns exec {} {command}", self.theirs))
    }

    pub(crate) fn try_there(&self, command: &str) -> String {
        let output = try_run(&format!("ip netns exec {} {command}", self.theirs));
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    }

    /// Starts a router that stays in the foreground.
    pub(crate) fn start(&self, command: &str) {
        let log = self.dir.join("log");
        run(&format!("ip netns exec {} {command} >>{} 2>&1 &", self.theirs, log.display()));
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for netns in [&self.ours, &self.theirs] {
            // Ourselves excepted: a thread of this process may have entered.
            try_run(&format!(
                "ip netns pids {netns} | grep -vx {} | xargs -r kill -9; ip netns delete {netns}",
                std::process::id()
            ));
        }
        // Left behind when it cannot be removed: it lies in the temporary directory.
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}
