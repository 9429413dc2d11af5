//! The demo.

use anyhow::Result;

use crate::lab::{Lab, LabSpec, Programs};

pub fn run(name: &str, remove: bool, programs: &Programs) -> Result<()> {
    let lab = Lab::raise(name, &LabSpec::default(), programs)?;
    if remove { Lab::down(name).map(drop) } else { lab.keep() }
}
