//! The CNI specification as types: what a runtime asks, and what it is told. Versions 0.3.0 to 1.1.0.

mod call;
mod error;
pub mod result;
mod version;

pub use self::call::{Call, Sandboxed, Verb};
pub use self::error::{CallError, CniError};
pub use self::version::CniVersion;
