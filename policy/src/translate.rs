//! Kubernetes objects to the model: Namespace, Pod, NetworkPolicy.
//!
//! In: objects as the API or a directory of YAML delivers them; nothing is taken for granted, because old objects
//! escape today's validation and files were never validated. Out: model values, or a [`FieldError`]. Within a
//! NetworkPolicy a part that cannot be understood allows nothing and selects everything: the pods that its author meant
//! to protect are protected, and the part is listed in [`Policy::errors`].
//!
//! [`FieldError`]: crate::model::FieldError
//! [`Policy::errors`]: crate::model::Policy::errors

mod cidr;
mod namespace;
mod network_policy;
mod pod;
mod port;
#[cfg(test)]
mod tests;

pub(crate) use cidr::parse_cidr_sloppy;
pub use namespace::namespace;
pub use network_policy::{policy, selector};
pub use pod::{SlimPod, pod};
