//! Kubernetes objects to the model: Namespace, Pod, NetworkPolicy.
//!
//! In: objects as the API or a directory of YAML delivers them; nothing is taken for granted, because old objects
//! escape today's validation and files were never validated. Out: model values, or the [`Problem`](crate::model::Problem) that names object
//! and field. Within a NetworkPolicy a part that cannot be understood allows nothing and selects everything: the pods
//! that its author meant to protect are protected, and the problem is listed in [`Policy::problems`](crate::model::Policy::problems).

mod cidr;
mod object;
mod policy;
#[cfg(test)]
mod tests;

pub use cidr::parse_cidr;
pub use object::{namespace, pod};
pub use policy::{policy, selector};
