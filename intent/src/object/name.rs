//! Which names objects can have: those that an API server takes.
//!
//! A name ends up in other names: `mesh/NODE` is that of a session, `KIND-NAME.yaml` that of a file.

use super::{Kind, ObjectKey};

/// The one BGPConfiguration that is read.
pub(crate) const CONFIGURATION: &str = "default";

/// RFC 1123, as Kubernetes has it.
const MAX_LABEL: usize = 63;
const MAX_NAME: usize = 253;

pub(super) fn check(key: &ObjectKey) -> Result<(), String> {
    let ObjectKey { kind, namespace, name } = key;
    if !is_subdomain(name) || (*kind == Kind::Namespace && !is_label(name)) {
        return Err(format!("metadata.name: {name:?} is no name: lower case letters, digits, `-` and `.`"));
    }
    if !namespace.is_empty() && !is_label(namespace) {
        return Err(format!("metadata.namespace: {namespace:?} is no name of a namespace"));
    }
    if *kind == Kind::BgpConfiguration && name != CONFIGURATION {
        return Err(format!("metadata.name: only the one named {CONFIGURATION} is read"));
    }
    Ok(())
}

/// Whether an API server knows objects of such names.
pub fn is_subdomain(name: &str) -> bool {
    name.len() <= MAX_NAME && name.split('.').all(is_part)
}

fn is_label(name: &str) -> bool {
    name.len() <= MAX_LABEL && is_part(name)
}

/// What labels and annotations are called: `name`, or `some.domain/name`.
pub(super) fn is_qualified(name: &str) -> bool {
    let (domain, name) = name.split_once('/').map_or((None, name), |(domain, name)| (Some(domain), name));
    domain.is_none_or(is_subdomain) && is_word(name)
}

/// The name of a label, and its value where it has one.
pub(super) fn is_word(word: &str) -> bool {
    let ends = [word.as_bytes().first(), word.as_bytes().last()];
    word.len() <= MAX_LABEL
        && ends.into_iter().all(|byte| byte.is_some_and(u8::is_ascii_alphanumeric))
        && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

fn is_part(part: &str) -> bool {
    let is_alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let ends = [part.as_bytes().first(), part.as_bytes().last()];
    ends.into_iter().all(|byte| byte.is_some_and(is_alphanumeric))
        && part.bytes().all(|byte| is_alphanumeric(&byte) || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(kind: Kind, namespace: &str, name: &str) -> bool {
        check(&ObjectKey { kind, namespace: namespace.to_owned(), name: name.to_owned() }).is_err()
    }

    #[test]
    fn names_are_those_that_an_api_server_takes() {
        for name in ["tor-a", "9", "rack1.tor-a", &"a".repeat(253)] {
            assert!(!refused(Kind::BgpPeer, "", name), "{name}");
        }
        for name in
            ["mesh/n2", "../x", "Tor", "tor_a", "-a", "a-", "a..b", ".a", "a b", "ä", &"a".repeat(254)]
        {
            assert!(refused(Kind::BgpPeer, "", name), "{name}");
        }
        assert!(refused(Kind::Namespace, "", "a.b") && refused(Kind::Pod, "a.b", "web"));
        assert!(!refused(Kind::Pod, "demo", "web.0"));
    }

    #[test]
    fn there_is_one_configuration() {
        assert!(
            refused(Kind::BgpConfiguration, "", "other") && !refused(Kind::BgpConfiguration, "", "default")
        );
    }
}
