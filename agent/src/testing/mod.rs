//! For tests against the real kernel: code that runs in a network namespace of its own, gone when it ends.

use std::future::Future;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};

/// What has not happened by then never will. A machine that many test on has its moments: what waits for the kernel's RTNL lock,
/// or for a commit of nftables, waits for all namespaces that anybody ends.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// Runs `test` on a thread in a fresh namespace with `lo` up, and ends all tasks that it leaves. Needs root.
#[expect(clippy::disallowed_methods, reason = "joined, and its panic is ours")]
pub(crate) fn in_netns<F: Future<Output: Send + 'static>>(
    test: impl FnOnce() -> F + Send + 'static,
) -> F::Output {
    let thread = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("tests against the kernel run as root");
        ip("link set lo up");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(test())
    });
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// `ip ARGS` in the caller's namespace; returns what it printed.
pub(crate) fn ip(args: &str) -> String {
    let output = Command::new("ip").args(args.split_whitespace()).output().unwrap();
    assert!(output.status.success(), "ip {args}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// `ip` with one command per line.
pub(crate) fn ip_batch(commands: &str) {
    let mut child = Command::new("ip").args(["-batch", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(commands.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

/// Polls until `holds`, with a deadline.
pub(crate) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !holds() {
        assert!(tokio::time::Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
