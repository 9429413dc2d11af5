//! Two network namespaces and a wire between them. They vanish with the process.

use std::net::Ipv4Addr;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::net::Namespace;

pub(super) const SPEAKER: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
pub(super) const SENDER: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 2);
pub(super) const RECEIVER: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 3);

pub(super) struct Testbed {
    /// The speaker under test alone.
    pub(super) speaker: Namespace,
    /// Who feeds it and who reads from it.
    pub(super) testers: Namespace,
}

impl Testbed {
    pub(super) fn raise() -> Result<Self> {
        let testbed = Self { speaker: Namespace::create("speaker")?, testers: Namespace::create("testers")? };
        let Self { speaker, testers } = &testbed;
        ip(testers, &format!("link add wire type veth peer name wire netns {}", speaker.path()))?;
        ip(speaker, &format!("address add {SPEAKER}/24 dev wire"))?;
        for address in [SENDER, RECEIVER] {
            ip(testers, &format!("address add {address}/24 dev wire"))?;
        }
        for side in [speaker, testers] {
            ip(side, "link set lo up")?;
            ip(side, "link set wire up")?;
        }
        Ok(testbed)
    }
}

fn ip(namespace: &Namespace, words: &str) -> Result<()> {
    namespace.enter(|| {
        let output = Command::new("ip").args(words.split(' ')).output().context("running ip")?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "ip {words}: {}", complaint.trim());
        Ok(())
    })
}
