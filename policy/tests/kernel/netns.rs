//! Network namespaces and the commands that run in them.

use std::io::Write;
use std::process::{Child, Command, Stdio};

use nix::sched::{CloneFlags, unshare};

/// Puts this thread, and whatever it starts, into a new namespace with loopback up.
pub(crate) fn enter_new() {
    unshare(CloneFlags::CLONE_NEWNET).expect("root may make a network namespace");
    run("ip", &["link", "set", "lo", "up"], "");
}

/// A process that keeps the thread's present namespace alive, so that others can name it by pid.
pub(crate) struct Keeper(Child);

impl Keeper {
    pub(crate) fn start() -> Self {
        // Ends by itself when we do: its input closes.
        Self(Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("cat starts"))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        self.0.wait().expect("it is our child");
    }
}

/// Runs a command to its end and returns what it printed; fails the test if the command fails.
pub(crate) fn run(program: &str, arguments: &[&str], input: &str) -> String {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    child.stdin.take().expect("piped").write_all(input.as_bytes()).expect("the command reads its input");
    let output = child.wait_with_output().expect("the command ends");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {errors}\n{input}");
    String::from_utf8(output.stdout).expect("text")
}
