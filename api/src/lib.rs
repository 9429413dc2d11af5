//! Types that Weft's processes share. Nothing here acts.
//!
//! [`cni`] is spoken on `cni.sock` between `weft-cni` and the agent, [`control`] on `agent.sock` between `weftctl` and
//! the agent, and `crd` (feature `crd`) is what users write. [`hash`] and [`prefix`] are what they must do alike.

pub mod cni;
pub mod control;
#[cfg(feature = "crd")]
pub mod crd;
mod datastore;
pub mod hash;
pub mod prefix;

pub use datastore::Datastore;

/// Where sockets, journal and markers live unless told otherwise. Dies with the boot.
pub const RUN_DIR: &str = "/run/weft";
/// Names another run directory, for the client that a runtime executes without flags of ours.
pub const RUN_DIR_ENV: &str = "WEFT_RUN_DIR";
/// Below the run directory: [`cni::Request`] in, [`cni::Reply`] out, as [`cni`] says.
pub const CNI_SOCKET: &str = "cni.sock";
/// Below the run directory: a file `CONTAINERID@IFNAME` for each DEL that found no agent.
pub const DELETED_DIR: &str = "deleted";
/// Below the run directory: there once pods could be added in this boot. From then on STATUS answers well, whether or not
/// an agent runs: a runtime would report the node as not ready, and Kubernetes evict pods that lack nothing.
pub const SERVED_MARK: &str = "served";
/// Below the run directory: HTTP/1.1 with JSON, see [`control`].
pub const AGENT_SOCKET: &str = "agent.sock";
/// The number of our routes and neighbours: `weft` in rt_protos.d.
pub const ROUTE_PROTOCOL: u8 = 87;
/// Every host-side pod link begins with this, and nothing else does.
pub const LINK_PREFIX: &str = "weft";
/// Link group of live pod links.
pub const LINK_GROUP: u32 = 87;
