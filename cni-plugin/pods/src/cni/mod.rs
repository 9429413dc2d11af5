//! The CNI specification as types: what a runtime asks, and what it is told. Versions 0.3.0 to 1.1.0.

mod call;
mod error;
pub mod result;
mod version;

pub use self::call::{Call, Sandboxed, answer_version};
pub use self::error::CniError;
pub use self::version::CniVersion;
