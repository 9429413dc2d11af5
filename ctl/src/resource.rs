//! The kinds of ours as users name them: kind, plural, singular or short name, in any case, as kubectl takes them.
//!
//! In: words. Out: kinds and names of objects. Names and columns are those of the definitions that the chart installs, so
//! that a table is the same from kubectl and from a directory.

use std::sync::LazyLock;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceColumnDefinition, CustomResourceDefinition, CustomResourceDefinitionNames,
};
use kube::api::ApiResource;
use weft_api::crd::definitions;

use crate::failure::Usage;

#[derive(Debug, PartialEq)]
pub(crate) struct Resource(CustomResourceDefinition);

/// Objects of one kind; all of them where no name is given.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Selection {
    pub(crate) resource: &'static Resource,
    pub(crate) names: Vec<String>,
}

impl Resource {
    /// In the order in which `all` shows them.
    pub(crate) fn all() -> &'static [Self] {
        static ALL: LazyLock<Vec<Resource>> =
            LazyLock::new(|| definitions().into_iter().map(Resource).collect());
        &ALL
    }

    pub(crate) fn of_kind(kind: &str) -> Option<&'static Self> {
        Self::all().iter().find(|resource| resource.kind() == kind)
    }

    pub(crate) fn kind(&self) -> &str {
        &self.names().kind
    }

    pub(crate) fn api(&self) -> ApiResource {
        let (group, version) = (self.0.spec.group.clone(), self.version().to_owned());
        ApiResource {
            api_version: format!("{group}/{version}"),
            group,
            version,
            kind: self.kind().to_owned(),
            plural: self.names().plural.clone(),
        }
    }

    pub(crate) fn columns(&self) -> impl Iterator<Item = &CustomResourceColumnDefinition> {
        self.0.spec.versions.iter().flat_map(|version| version.additional_printer_columns.iter().flatten())
    }

    /// Of one object among others: `bgppeer.weft.dev/tor`.
    pub(crate) fn full_name(&self, name: &str) -> String {
        format!("{}.{}/{name}", self.kind().to_lowercase(), self.0.spec.group)
    }

    fn names(&self) -> &CustomResourceDefinitionNames {
        &self.0.spec.names
    }

    fn version(&self) -> &str {
        self.0.spec.versions.first().map_or("", |version| &version.name)
    }

    fn is_named(&self, word: &str) -> bool {
        let word = word.to_lowercase();
        let api = format!(".{}.{}", self.version(), self.0.spec.group);
        let group = format!(".{}", self.0.spec.group);
        let word = word.strip_suffix(&api).or_else(|| word.strip_suffix(&group)).unwrap_or(&word);
        let names = self.names();
        let short = names.short_names.iter().flatten();
        let mut known = [&names.kind, &names.plural].into_iter().chain(&names.singular).chain(short);
        known.any(|name| name.to_lowercase() == word)
    }
}

/// `bgppeers`, `bgppeers,bgpfilters`, `bgppeer tor-a tor-b`, `bgppeer/tor-a bgpfilter/x`, `all`.
pub(crate) fn select(words: &[String]) -> Result<Vec<Selection>, Usage> {
    let (first, names) = words.split_first().ok_or_else(|| Usage("a kind is missing".to_owned()))?;
    if words.iter().any(|word| word.contains('/')) {
        return by_full_names(words);
    }
    if first == "all" || first == "weft" {
        return match names {
            [] => Ok(Resource::all().iter().map(|resource| Selection { resource, names: vec![] }).collect()),
            _ => Err(Usage(format!("`{first}` is every kind: names need one kind"))),
        };
    }
    let selection = |word| Ok(Selection { resource: named(word)?, names: each_once(names) });
    first.split(',').map(selection).collect()
}

/// Those of one kind that follow one another are one selection.
fn by_full_names(words: &[String]) -> Result<Vec<Selection>, Usage> {
    let mut selections: Vec<Selection> = Vec::new();
    for word in words {
        let next = one(word)?;
        match selections.last_mut().filter(|last| last.resource == next.resource) {
            Some(last) => last.names = each_once(&[last.names.as_slice(), &next.names].concat()),
            None => selections.push(next),
        }
    }
    Ok(selections)
}

fn each_once(names: &[String]) -> Vec<String> {
    let is_new = |(index, name): &(usize, &String)| !names[..*index].contains(name);
    names.iter().enumerate().filter(is_new).map(|(_, name)| name.clone()).collect()
}

fn one(word: &str) -> Result<Selection, Usage> {
    match word.split_once('/') {
        Some((kind, name)) if !name.is_empty() && !name.contains('/') => {
            Ok(Selection { resource: named(kind)?, names: vec![name.to_owned()] })
        }
        _ => Err(Usage(format!("`{word}` is not KIND/NAME, as the others are"))),
    }
}

fn named(word: &str) -> Result<&'static Resource, Usage> {
    let all = Resource::all();
    let known = || {
        let plurals = all.iter().map(|resource| resource.names().plural.as_str());
        Usage(format!(
            "`{word}` is no kind of Weft's; these are: {}, all",
            plurals.collect::<Vec<_>>().join(", ")
        ))
    };
    all.iter().find(|resource| resource.is_named(word)).ok_or_else(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selected(words: &str) -> Vec<(String, Vec<String>)> {
        let words: Vec<_> = words.split(' ').map(str::to_owned).collect();
        let selections = select(&words).unwrap().into_iter();
        selections.map(|selection| (selection.resource.kind().to_owned(), selection.names)).collect()
    }

    fn wrong(words: &str) -> String {
        let words: Vec<_> = words.split(' ').map(str::to_owned).collect();
        select(&words).unwrap_err().to_string()
    }

    #[test]
    fn a_kind_has_the_names_that_kubectl_takes() {
        for word in
            ["bgppeer", "bgppeers", "BGPPeer", "BgpPeers", "bgppeers.weft.dev", "bgppeer.v1alpha1.weft.dev"]
        {
            assert_eq!(selected(word), [("BGPPeer".to_owned(), vec![])], "{word}");
        }
        for (short, kind) in [
            ("bgpconfig", "BGPConfiguration"),
            ("bgpprofile", "BGPPeerProfile"),
            ("bgpnode", "BGPNodeOverride"),
            ("bgpadv", "BGPAdvertisement"),
            ("wn", "WeftNode"),
        ] {
            assert_eq!(selected(short), [(kind.to_owned(), vec![])]);
        }
        assert!(wrong("ippools").contains("bgpconfigurations, bgppeers"), "{}", wrong("ippools"));
    }

    #[test]
    fn names_follow_one_kind_or_each_has_its_own() {
        let of =
            |kind: &str, names: &[&str]| (kind.to_owned(), names.iter().map(ToString::to_string).collect());
        assert_eq!(selected("bgppeer a b"), [of("BGPPeer", &["a", "b"])]);
        assert_eq!(selected("bgppeers,bgpfilters"), [of("BGPPeer", &[]), of("BGPFilter", &[])]);
        assert_eq!(
            selected("bgppeer/a bgppeer/c bgpfilter/b"),
            [of("BGPPeer", &["a", "c"]), of("BGPFilter", &["b"])]
        );
        assert_eq!(selected("bgppeer b a b"), [of("BGPPeer", &["b", "a"])]);
        assert_eq!(selected("bgppeer/b bgppeer/a bgppeer/b"), [of("BGPPeer", &["b", "a"])]);
        for words in ["bgppeer/a b", "bgppeer/", "bgppeer/a/b", "all a"] {
            wrong(words);
        }
    }

    #[test]
    fn all_is_every_kind() {
        assert_eq!(selected("all").len(), definitions().len());
        assert_eq!(selected("all"), selected("weft"));
    }
}
