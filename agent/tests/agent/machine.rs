//! A node in a network namespace, with an agent.

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};

pub(crate) const DEADLINE: Duration = Duration::from_secs(60);
const PORT: u16 = 9179;

pub(crate) struct Agent {
    child: Child,
    pub(crate) directory: PathBuf,
}

impl Agent {
    /// Starts `weft-agent run` with these flags and this environment beside the usual ones. The calling thread joins its
    /// network namespace. `files` are written before, into its directory, which is `DIR` in flags and values.
    pub(crate) fn start(name: &str, files: &[(&str, &str)], flags: &[&str], env: &[(&str, &str)]) -> Self {
        let directory = std::env::temp_dir().join(format!("weft-agent-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        for (file, text) in files {
            let path = directory.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let in_directory = |text: &str| text.replace("DIR", &directory.to_string_lossy());
        let binary = env!("CARGO_BIN_EXE_weft-agent");
        let child = Command::new("unshare")
            .args(["--net", "sh", "-c", "ip link set lo up; exec \"$0\" \"$@\"", binary])
            .args(["--log", "warn", "run", "--node", "n1"])
            .args(
                ["--run-dir=DIR/run", "--cni-conf-dir=DIR/net.d", "--cni-bin-dir=DIR/bin"].map(in_directory),
            )
            .args(flags.iter().map(|flag| in_directory(flag)))
            .envs(env.iter().map(|(key, value)| (key, in_directory(value))))
            .stdin(Stdio::null())
            .spawn()
            .expect("unshare of util-linux, as root");
        let agent = Self { child, directory };
        until("the agent answers", || UnixStream::connect(agent.socket()).is_ok());
        setns(fs::File::open(agent.proc("ns/net")).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
        agent
    }

    fn socket(&self) -> PathBuf {
        self.directory.join("run/agent.sock")
    }

    fn proc(&self, name: &str) -> PathBuf {
        format!("/proc/{}/{name}", self.child.id()).into()
    }

    pub(crate) fn resident_bytes(&self) -> usize {
        let status = fs::read_to_string(self.proc("status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap() << 10
    }

    /// On the control socket.
    pub(crate) fn control(&self, path: &str) -> String {
        get(UnixStream::connect(self.socket()).unwrap(), path)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// To the metrics port.
pub(crate) fn connect(from: IpAddr) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(from, 0).into()).unwrap();
    socket.connect(&SocketAddr::from(([127, 0, 0, 1], PORT)).into()).unwrap();
    socket.set_write_timeout(Some(DEADLINE)).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket.into()
}

pub(crate) fn get(mut stream: impl Read + Write, path: &str) -> String {
    write!(stream, "GET {path} HTTP/1.1\r\nhost: n1\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}
