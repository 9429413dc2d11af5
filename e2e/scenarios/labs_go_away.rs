//! A lab leaves nothing behind, however it ends.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use weft_e2e::lab::{Lab, LabSpec, Machine};
use weft_e2e::wait;

use crate::story::{programs, raise};

const END: Duration = Duration::from_secs(10);

#[test]
fn dropping_a_lab_ends_its_processes_and_removes_its_directory() {
    let lab = raise("dropped", &LabSpec::racks(["bird+frr:1"]));
    let (name, machines) = (lab.name(), lab.machines());
    assert!(machines.iter().all(|machine| machine.init.alive()));

    drop(lab);

    assert!(machines.iter().all(|machine| !machine.init.alive()));
    assert!(!Lab::names().unwrap().contains(&name));
}

#[test]
fn a_lab_whose_maker_was_killed_ends_by_itself_and_down_removes_the_rest() {
    let name = format!("killed-{}", std::process::id());
    let mut maker = Command::new(&programs().weft_e2e);
    maker.args(["lab", "up", "--no-agents", "--name", &name]).stdout(Stdio::null()).stderr(Stdio::null());
    let mut maker = maker.spawn().unwrap();
    let machines = wait::until("a half-raised lab", END, || half_raised(&name)).unwrap();

    maker.kill().unwrap();
    maker.wait().unwrap();

    for machine in &machines {
        machine.init.wait_gone(END).unwrap();
    }
    assert!(Lab::down(&name).unwrap());
    assert!(!Lab::down(&name).unwrap(), "a second time there is nothing to do");
}

#[test]
fn a_kept_lab_outlives_its_maker_until_down() {
    let lab = raise("kept", &LabSpec::racks(["bird:1"]));
    let (name, machines) = (lab.name(), lab.machines());

    lab.keep().unwrap();
    Lab::sweep().unwrap();

    let attached = Lab::attach(&name, &programs()).unwrap();
    assert_eq!(attached.run("node1", "hostname").unwrap().trim(), format!("weft-{name}-node1"));
    assert!(Lab::down(&name).unwrap());
    assert!(machines.iter().all(|machine| !machine.init.alive()));
}

#[test]
fn nothing_of_a_lab_is_visible_on_the_real_machine() {
    let _lab = raise("hidden", &LabSpec::racks(["bird:1"]));

    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains("weft-lab"), "{mounts}");
    for entry in fs::read_dir("/sys/class/net").unwrap() {
        let name = entry.unwrap().file_name().to_string_lossy().into_owned();
        assert!(
            !["node", "tor", "spine", "outside", "rack"].iter().any(|ours| name.starts_with(ours)),
            "{name}"
        );
    }
}

fn half_raised(name: &str) -> Result<Option<Vec<Machine>>> {
    let machines = Lab::attach(name, &programs()).context("not there")?.machines();
    Ok((machines.len() >= 3).then_some(machines))
}
