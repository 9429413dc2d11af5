//! Sessions and RIB as one pure object: inputs and a time go in, effects come out.

mod config;
mod status;

pub use config::{
    Hops, LocalNexthop, OriginConfig, Password, PeerConfig, PeerKey, RemoteAsn, Shutdown, SpeakerConfig,
    Transport,
};
pub use status::{FamilyStatus, PathStatus, PeerStatus, RouteFilter, RouteStatus};
