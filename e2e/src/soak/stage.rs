//! Where a story is told: what does the steps, and what can be seen from outside of what is left behind.

use std::net::IpAddr;

use anyhow::Result;

use super::model::Model;
use super::steps::Step;
use super::world::End;
use crate::net::Namespace;

/// Where every end's echo server listens.
pub const PORT: u16 = 8080;
/// Graceful restart: how long routes of an agent that died are kept. Short, because routers keep those of a node whose cable
/// is cut as long.
pub const RESTART_SECONDS: u16 = 30;

pub trait Stage {
    /// Does one step; what it sets off is not waited for. The model has been told.
    fn act(&mut self, step: &Step, model: &Model) -> Result<()>;

    /// Where its packets are sent from.
    fn namespace(&self, end: &End) -> Result<Namespace>;

    fn address(&self, end: &End, v6: bool) -> Result<IpAddr>;

    /// What is not as it must be at a quiet moment: a trace of something that is gone, a route too many or too few.
    fn flaws(&self, model: &Model) -> Result<Vec<String>>;
}
