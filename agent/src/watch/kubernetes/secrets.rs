//! The Secrets that BGP sessions name, and no others: one watch each, so that the agent neither holds nor asks for what is none
//! of its business. Where no session has a password nothing is asked.
//!
//! In: BGPPeers, their profiles and the BGPConfiguration as they are known. Out: one stream of events, in which a name that
//! none of them has any more is silent from then on.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::{self, AbortHandle, Abortable, BoxStream, SelectAll};
use tokio::time::Instant;

use super::objects::Objects;
use super::scope::Scope;
use super::{Event, KubernetesDatastore};

/// Each is a watch of each agent on the API server. A Secret holds as many passwords as somebody likes, by key.
pub(super) const MAX_SECRETS: usize = 64;
/// How long everything else waits for a Secret that was not known: a list of one object takes milliseconds, and a peer that
/// came without its password would be missed for that long and then made. Who may not read it waits no longer than this.
pub(super) const LISTED_WITHIN: Duration = Duration::from_secs(2);

pub(super) struct Secrets {
    source: KubernetesDatastore,
    patience: Duration,
    events: SelectAll<Abortable<BoxStream<'static, (Scope, Event)>>>,
    /// By the peers that are known.
    named: BTreeSet<String>,
    watched: BTreeMap<String, Watched>,
}

struct Watched {
    end: AbortHandle,
    /// `None` when it has listed.
    wait_until: Option<Instant>,
}

impl Secrets {
    /// `patience`: see [`LISTED_WITHIN`].
    pub(super) fn new(source: KubernetesDatastore, patience: Duration) -> Self {
        Self { source, patience, events: SelectAll::new(), named: BTreeSet::new(), watched: BTreeMap::new() }
    }

    /// `None` when none is watched.
    pub(super) async fn next(&mut self) -> Option<(Scope, Event)> {
        let (scope, event) = self.events.next().await?;
        if let (Event::InitDone, Some(name)) = (&event, scope.name())
            && let Some(watched) = self.watched.get_mut(name)
        {
            watched.wait_until = None;
        }
        Some((scope, event))
    }

    /// Until when a snapshot waits for lists.
    pub(super) fn wait_until(&self, now: Instant) -> Option<Instant> {
        self.watched.values().filter_map(|watched| watched.wait_until).filter(|until| *until > now).max()
    }

    /// Watches what the peers name, forgets what they do not.
    pub(super) fn follow(&mut self, objects: &mut Objects, now: Instant) {
        let named = objects.named_secrets();
        if named == self.named {
            return;
        }
        objects.keep_secrets(&named);
        self.watched.retain(|name, watched| {
            let is_named = named.contains(name);
            if !is_named {
                watched.end.abort();
                self.source.heard.forget(&Scope::Secret(name.clone()));
            }
            is_named
        });
        for name in &named {
            if self.watched.len() < MAX_SECRETS {
                self.watch(name, now);
            } else if !self.watched.contains_key(name) {
                objects.refuse_secret(&self.source.namespace, name, too_many());
            }
        }
        self.named = named;
    }

    fn watch(&mut self, name: &str, now: Instant) {
        self.watched.entry(name.to_owned()).or_insert_with(|| {
            let scope = Scope::Secret(name.to_owned());
            self.source.heard.expect(scope.clone());
            let (events, end) = stream::abortable(self.source.clone().events(scope));
            self.events.push(events);
            Watched { end, wait_until: Some(now + self.patience) }
        });
    }
}

fn too_many() -> String {
    format!(
        "not read: BGP sessions name more than {MAX_SECRETS} Secrets; one can hold many passwords, by key"
    )
}

#[cfg(test)]
mod tests;
