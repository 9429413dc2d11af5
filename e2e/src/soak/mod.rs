//! The reference model of the whole, and the driver that holds a lab or a cluster against it.
//!
//! [`draw`] makes [`steps`] out of a seed; [`driver`] does each on a [`stage`] and tells it to the [`model`]; at each quiet
//! moment every pair of ends is tried with traffic ([`probe`]), nothing may be left over, and conversations that the model
//! says were never touched lost nothing ([`talk`]). A story that ends badly is made short ([`shrink`]).
//!
//! Nothing here uses the product's own code: what decides is written down again, in the plainest way ([`rules`],
//! [`topology`]), from what the field says.

pub mod cluster_stage;
pub mod dice;
pub mod draw;
pub mod driver;
pub mod inspect;
pub mod lab_stage;
pub mod model;
pub mod probe;
pub mod rules;
pub mod run;
pub mod shrink;
pub mod stage;
pub mod steps;
pub mod talk;
pub mod topology;
pub mod traces;
pub mod world;
