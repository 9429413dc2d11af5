//! What users want: from the text that they write to what one node is to do. Pure, so that the command line comes to the
//! same judgement as the agent, by the same code, with no agent and no cluster.
//!
//! In: YAML ([`documents`]) or objects of an API server ([`object`]), which become one typed [`Snapshot`]; [`files`] keeps
//! what a directory holds, and what it last held that was good. Out: which objects are in force as written
//! ([`plan::acceptance`]), and what a node wants ([`plan::desired`]).

pub mod documents;
pub mod files;
pub mod object;
pub mod plan;
pub mod problem;
pub mod shown;
pub mod snapshot;
pub mod trial;

pub use object::{Kind, NodeInfo, Object, ObjectKey};
pub use problem::Problem;
pub use snapshot::{BgpObjects, Snapshot};
