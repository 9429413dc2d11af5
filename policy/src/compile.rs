//! The compiler: a world and the pods of this node to the ruleset of table `inet weft`.
//!
//! Pure, and total: whatever cannot be understood or is not known yet compiles to less being allowed.

use crate::model::{LocalPod, Problem, World};
use crate::ruleset::Ruleset;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// What the host side of every pod's link is called at its beginning.
    pub link_prefix: String,
    /// The conntrack mark bit of flows that were established and are now forbidden.
    pub revoked_mark: u32,
    /// The NFLOG group that samples denied packets.
    pub log_group: u16,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compiled {
    pub ruleset: Ruleset,
    /// Of all policies and of the local pods' addresses, sorted.
    pub problems: Vec<Problem>,
}

impl Default for Options {
    fn default() -> Self {
        Self { link_prefix: "weft".to_owned(), revoked_mark: 0x4000_0000, log_group: 100 }
    }
}

/// The ruleset that makes this node enforce `world` for the pods wired to it. The order of `local` does not matter.
pub fn compile(world: &World, local: &[LocalPod], options: &Options) -> Compiled {
    let _ = (world, local, options);
    Compiled::default()
}
