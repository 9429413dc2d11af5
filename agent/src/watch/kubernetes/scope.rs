//! What one watch sees: all objects of a kind, or one Secret of the agent's namespace.

use std::fmt;

use hyper::Uri;
use kube::Resource as _;
use weft_intent::{Kind, ObjectKey};

use super::KINDS;
use super::raw::Raw;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Scope {
    All(Kind),
    /// By name.
    Secret(String),
}

impl Scope {
    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::All(kind) => *kind,
            Self::Secret(_) => Kind::Secret,
        }
    }

    /// The name within the kind, where the watch is for one.
    pub(super) fn name(&self) -> Option<&str> {
        match self {
            Self::All(_) => None,
            Self::Secret(name) => Some(name),
        }
    }

    pub(super) fn covers(&self, key: &ObjectKey) -> bool {
        key.kind == self.kind() && self.name().is_none_or(|name| key.name == name)
    }

    /// As the API server is asked for it: the one form of selector that a rule with `resourceNames` allows.
    pub(super) fn field_selector(&self) -> Option<String> {
        self.name().map(|name| format!("metadata.name={name}"))
    }

    /// Of a list or a watch of ours.
    pub(super) fn of(uri: &Uri) -> Option<Self> {
        let (_, last) = uri.path().rsplit_once('/')?;
        if last == Raw::plural(&Kind::Secret) {
            let mut selectors =
                uri.query()?.split('&').filter_map(|part| part.strip_prefix("fieldSelector="));
            return selectors
                .next()?
                .strip_prefix("metadata.name%3D")
                .map(|name| Self::Secret(name.to_owned()));
        }
        KINDS.into_iter().find(|kind| Raw::plural(kind) == last).map(Self::All)
    }
}

impl From<Kind> for Scope {
    fn from(kind: Kind) -> Self {
        Self::All(kind)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All(kind) => write!(f, "{kind}"),
            Self::Secret(name) => write!(f, "{} {name}", Kind::Secret),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scope_is_read_from_the_request() {
        let scope = |uri: &str| Scope::of(&uri.parse().unwrap());
        let secret =
            "/api/v1/namespaces/weft-system/secrets?&watch=true&fieldSelector=metadata.name%3Dbgp&limit=1";
        assert_eq!(scope(secret), Some(Scope::Secret("bgp".to_owned())));
        assert_eq!(scope("/apis/weft.dev/v1alpha1/bgppeers"), Some(Scope::All(Kind::BgpPeer)));
        assert_eq!(scope("/api/v1/nodes/n1/status"), None);
    }
}
