//! The built `weft-cni`, executed as a runtime does, against an agent that answers what a test says. Needs root.

#![expect(clippy::unwrap_used, reason = "a stage that cannot be set up has failed its test")]

use std::io::{BufRead, BufReader, IoSliceMut, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, NetlinkAddr, bind, recvmsg};
use nix::time::{ClockId, clock_gettime};
use serde_json::Value;
use weft_api::cni::{MAX_REPLY, PROTOCOL, Reply, Request};
use weft_api::{CNI_SOCKET, DELETED_DIR, RUN_DIR_ENV};

const CONF: &str = r#"{"cniVersion":"1.1.0","name":"net","type":"weft-cni"}"#;
const DEADLINE: Duration = Duration::from_secs(30);

/// A run directory of its own.
struct RunDir(PathBuf);

impl RunDir {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("weft-client-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let dir = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    fn listen(&self) -> UnixListener {
        UnixListener::bind(self.0.join(CNI_SOCKET)).unwrap()
    }

    fn start(&self, command: &str, env: &[(&str, &str)], stdin: &str) -> Child {
        let mut child = Command::new(env!("CARGO_BIN_EXE_weft-cni"))
            .env_clear()
            .env(RUN_DIR_ENV, &self.0)
            .env("PATH", "/bin")
            .envs([("CNI_COMMAND", command), ("CNI_CONTAINERID", "c1"), ("CNI_IFNAME", "eth0")])
            .envs(env.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
        child
    }

    fn run(&self, command: &str, env: &[(&str, &str)], stdin: &str) -> Output {
        self.start(command, env, stdin).wait_with_output().unwrap()
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What an agent hears from a client, and the descriptors that came with it.
struct Heard {
    request: Request,
    descriptors: Vec<RawFd>,
}

/// Serves one client: hears it, and sends `answer` as it is, behind its length.
fn serve(listener: &UnixListener, answer: &[u8]) -> Heard {
    let (mut stream, _) = listener.accept().unwrap();
    let mut length = [0; 4];
    let mut space = nix::cmsg_space!([i32; 2]);
    let fd = stream.as_raw_fd();
    let mut into = [IoSliceMut::new(&mut length)];
    let message = recvmsg::<()>(fd, &mut into, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC).unwrap();
    let descriptors = message.cmsgs().unwrap().flat_map(|message| match message {
        ControlMessageOwned::ScmRights(fds) => fds,
        other => panic!("{other:?}"),
    });
    let descriptors = descriptors.collect();
    let mut request = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut request).unwrap();
    stream.write_all(&u32::try_from(answer.len()).unwrap().to_be_bytes()).unwrap();
    // A client that does not want it may have gone.
    let _ = stream.write_all(answer);
    Heard { request: serde_json::from_slice(&request).unwrap(), descriptors }
}

fn inode(fd: RawFd) -> u64 {
    std::fs::metadata(format!("/proc/self/fd/{fd}")).unwrap().ino()
}

fn reply(exit_code: u8, stdout: &str) -> Vec<u8> {
    serde_json::to_vec(&Reply { protocol: PROTOCOL, exit_code, stdout: stdout.to_owned() }).unwrap()
}

fn eventually(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < DEADLINE, "not within {DEADLINE:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn boot_milliseconds() -> u64 {
    let now = Duration::from(clock_gettime(ClockId::CLOCK_BOOTTIME).unwrap());
    u64::try_from(now.as_millis()).unwrap()
}

/// The error document on standard output.
fn refusal(output: &Output) -> (u64, String) {
    assert_eq!(output.status.code(), Some(1));
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    (document["code"].as_u64().unwrap(), document["msg"].as_str().unwrap().to_owned())
}

/// A network namespace in which IPv6 is off, as a host may hand it down; it lives as long as this.
struct Netns(Child);

impl Netns {
    fn new() -> Self {
        let script =
            "cd /proc/sys/net/ipv6/conf; echo 1 >all/disable_ipv6; echo 1 >default/disable_ipv6; echo; cat";
        let mut child = Command::new("unshare")
            .args(["--net", "sh", "-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self(child)
    }

    fn path(&self) -> String {
        format!("/proc/{}/ns/net", self.0.id())
    }

    fn sysctl(&self, name: &str) -> String {
        let command = ["--net", "-t", &self.0.id().to_string(), "cat", &format!("/proc/sys/net/{name}")];
        String::from_utf8(Command::new("nsenter").args(command).output().unwrap().stdout).unwrap()
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

#[test]
fn the_agent_hears_the_call_as_it_was_made_and_its_answer_is_the_plugins() {
    let run = RunDir::new();
    let agent = run.listen();
    let before = boot_milliseconds();
    let client = run.start("GC", &[("CNI_PATH", "/opt/cni/bin"), ("LD_DEBUG_OUTPUT", "/dev/null")], CONF);
    let Heard { request, descriptors } = serve(&agent, &reply(7, "an answer"));
    let output = client.wait_with_output().unwrap();
    assert_eq!((output.status.code(), &*output.stdout), (Some(7), &b"an answer"[..]));

    assert_eq!((request.protocol, request.stdin.as_str()), (PROTOCOL, CONF));
    assert!((before..=boot_milliseconds()).contains(&request.started), "{}", request.started);
    let env: Vec<_> = request.env.iter().map(|(key, value)| format!("{key}={value}")).collect();
    assert_eq!(env, ["CNI_COMMAND=GC", "CNI_CONTAINERID=c1", "CNI_IFNAME=eth0", "CNI_PATH=/opt/cni/bin"]);
    assert_eq!(descriptors, [0; 0], "no namespace is entered for it");
}

#[test]
fn add_hands_over_the_namespace_and_a_socket_in_it_and_turns_ipv6_on_there() {
    let (run, netns) = (RunDir::new(), Netns::new());
    let agent = run.listen();
    let client = run.start("ADD", &[("CNI_NETNS", &netns.path())], CONF);
    let heard = serve(&agent, &reply(0, ""));
    assert!(client.wait_with_output().unwrap().status.success());

    let [namespace, socket] = heard.descriptors.try_into().unwrap();
    assert_eq!(inode(namespace), std::fs::metadata(netns.path()).unwrap().ino());
    // From then on its namespace lists it.
    bind(socket, &NetlinkAddr::new(0, 0)).unwrap();
    let sockets = std::fs::read_to_string(format!("/proc/{}/net/netlink", netns.0.id())).unwrap();
    let mut inodes = sockets.lines().filter_map(|line| line.split_whitespace().last());
    let socket = inode(socket).to_string();
    assert!(inodes.any(|inode| inode == socket), "{socket} is not in the namespace:\n{sockets}");
    for scope in ["all", "default"] {
        assert_eq!(netns.sysctl(&format!("ipv6/conf/{scope}/disable_ipv6")), "0\n");
    }
}

#[test]
fn the_namespace_of_the_runtime_is_refused_unless_it_insists() {
    let run = RunDir::new();
    let own = ("CNI_NETNS", "/proc/self/ns/net");
    assert_eq!(refusal(&run.run("ADD", &[own], CONF)).0, 8);
    let agent = run.listen();
    let client = run.start("ADD", &[own, ("CNI_NETNS_OVERRIDE", "1")], CONF);
    assert_eq!(serve(&agent, &reply(0, "")).descriptors.len(), 2);
    assert!(client.wait_with_output().unwrap().status.success());
}

#[test]
fn an_agent_that_comes_late_is_waited_for() {
    let run = RunDir::new();
    let client = run.start("GC", &[], CONF);
    let waits = || std::fs::read(format!("/proc/{}/wchan", client.id())).unwrap().ends_with(b"nanosleep");
    eventually("the client waits for an agent", waits);
    let agent = run.listen();
    serve(&agent, &reply(0, "late"));
    assert_eq!(client.wait_with_output().unwrap().stdout, b"late");
}

#[test]
fn an_agent_that_never_comes_is_not_waited_for_for_ever() {
    let (code, message) = refusal(&RunDir::new().run("GC", &[], CONF));
    assert_eq!(code, 11, "{message}");
}

#[test]
fn without_an_agent_a_del_succeeds_and_is_noted() {
    let run = RunDir::new();
    let output = run.run("DEL", &[], CONF);
    assert_eq!((output.status.code(), &*output.stdout), (Some(0), &b""[..]));
    let note = run.0.join(DELETED_DIR).join("c1@eth0");
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&note), mode(note.parent().unwrap())), (0o600, 0o700));
}

#[test]
fn a_request_or_an_answer_that_is_too_long_is_refused() {
    let run = RunDir::new();
    // Four bytes as JSON in JSON for every two.
    let stdin = CONF.replace("net", &"\\\"".repeat(150_000));
    let (code, message) = refusal(&run.run("GC", &[], &stdin));
    assert!(code == 11 && message.contains("larger"), "{code} {message}");

    let longest = reply(0, &"x".repeat(MAX_REPLY - reply(0, "").len()));
    let longer = [&longest[..], b" "].concat();
    let agent = run.listen();
    for (answer, taken) in [(longest, true), (longer, false)] {
        let client = run.start("GC", &[], CONF);
        serve(&agent, &answer);
        assert_eq!(client.wait_with_output().unwrap().status.success(), taken, "{}", answer.len());
    }
}
