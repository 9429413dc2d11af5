//! The speakers under test, each a process of its own: BIRD 2 as the distribution has it, and ours. Both pass on what an
//! external peer sends to another one, and install nothing.

use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use ipnetwork::IpNetwork;
use weft_bgp::net::{self, Listen};
use weft_bgp::rib::ExportRoutes;
use weft_bgp::speaker::{PeerConfig, RemoteAsn, SpeakerConfig};
use weft_bgp::types::{AfiSafi, Asn, RouterId};

use super::session::{RECEIVER_ASN, SENDER_ASN, SPEAKER_ASN};
use super::testbed::{RECEIVER, SENDER, SPEAKER, Testbed};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Bird,
    Weft,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Bird => "BIRD 2",
            Self::Weft => "Weft",
        }
    }
}

/// A running speaker; killed when it goes out of scope.
pub(super) struct Speaker {
    process: Child,
    dir: PathBuf,
}

impl Speaker {
    pub(super) fn start(testbed: &Testbed, kind: Kind) -> Result<Self> {
        let dir = std::env::temp_dir().join(format!("weft-bench-{}", std::process::id()));
        fs::create_dir_all(&dir)?;
        let mut command = match kind {
            Kind::Bird => {
                let config = dir.join("bird.conf");
                fs::write(&config, bird_config())?;
                let mut bird = Command::new("bird");
                bird.arg("-f").arg("-c").arg(config).arg("-s").arg(dir.join("bird.ctl"));
                bird
            }
            Kind::Weft => {
                let mut weft = Command::new(std::env::current_exe()?);
                weft.args(["bench", "bgp-speaker"]);
                weft
            }
        };
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let process = testbed.speaker.enter(|| command.spawn().context(kind.name()))?;
        Ok(Self { process, dir })
    }

    /// CPU time so far, and the largest resident set in KiB.
    pub(super) fn usage(&self) -> Result<(Duration, u64)> {
        let read = |file: &str| {
            let path = format!("/proc/{}/{file}", self.process.id());
            fs::read_to_string(&path).with_context(|| path)
        };
        let status = read("status")?;
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("VmHWM")?;
        let peak = peak.trim().trim_end_matches(" kB").parse().context("VmHWM")?;
        // The process name, in parentheses, is the only field that may contain spaces.
        let stat = read("stat")?;
        let (_, fields) = stat.rsplit_once(')').context("stat")?;
        let ticks: u64 =
            fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
        Ok((Duration::from_millis(ticks * MILLIS_PER_TICK), peak))
    }
}

/// `USER_HZ` is 100 on every Linux.
const MILLIS_PER_TICK: u64 = 10;

impl Drop for Speaker {
    fn drop(&mut self) {
        // It may have ended by itself, which the run has reported.
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn bird_config() -> String {
    let mut text =
        format!("log stderr {{ warning, error, fatal }};\nrouter id {SPEAKER};\nprotocol device {{ }}\n");
    for (name, address, asn, import, export) in
        [("sender", SENDER, SENDER_ASN, "all", "none"), ("receiver", RECEIVER, RECEIVER_ASN, "none", "all")]
    {
        text += &format!(
            "protocol bgp {name} {{
  local {SPEAKER} as {SPEAKER_ASN};
  neighbor {address} as {asn};
  passive;
  ipv4 {{ import {import}; export {export}; }};
}}
"
        );
    }
    text
}

/// The body of the process that [`Kind::Weft`] starts: our speaker, until it is killed.
pub fn run_weft() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let config = SpeakerConfig::new(SPEAKER_ASN, RouterId(SPEAKER), 0);
        // The FIB's changes go nowhere, as BIRD's do without a kernel protocol.
        let (handle, _) = net::spawn(config, &Listen { port: 179, addresses: vec![SPEAKER.into()] })?;
        handle.set_peers(vec![sender()?, peer("receiver", RECEIVER.into(), RECEIVER_ASN)]).await?;
        std::future::pending::<Result<()>>().await
    })
}

fn sender() -> Result<PeerConfig> {
    Ok(PeerConfig {
        accept: vec!["0.0.0.0/0".parse::<IpNetwork>()?].into(),
        max_prefixes: u32::MAX,
        ..peer("sender", SENDER.into(), SENDER_ASN)
    })
}

fn peer(name: &str, address: IpAddr, asn: Asn) -> PeerConfig {
    PeerConfig {
        passive: true,
        families: vec![AfiSafi::Ipv4Unicast],
        export: ExportRoutes::Transit,
        ..PeerConfig::new(name, address, RemoteAsn::Number(asn))
    }
}
