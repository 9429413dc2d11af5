//! `weftctl bgp filter …`: what filters would make of a route, without a router and without an agent.

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::{Args, Subcommand, ValueEnum};
use ipnetwork::IpNetwork;
use serde::Serialize;
use weft_api::crd::{Cidr, CommunityText, FilterAction, FilterRule, PathOrigin};
use weft_intent::Object;
use weft_intent::trial::{self, Route, Verdict};

use super::{Outcome, print};
use crate::Output;
use crate::input::Input;
use crate::terminal::tell;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Say which rule decides about a route, and what becomes of the route.
    Test(Options),
}

#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Read BGPFilters from this file or directory; their rules are asked in its order.
    file: PathBuf,
    /// Try a route to this prefix.
    prefix: Cidr,
    /// Ask only these filters, in this order. May be given several times.
    #[arg(long = "filter", value_name = "NAME")]
    filters: Vec<String>,
    /// Let the route have crossed these systems, the nearest first.
    #[arg(long, value_name = "ASN,…", value_delimiter = ',')]
    as_path: Vec<u32>,
    /// Let the route have this community. May be given several times.
    #[arg(long = "community", value_name = "COMMUNITY")]
    communities: Vec<CommunityText>,
    /// Let the route have this origin.
    #[arg(long, value_enum, default_value_t = Origin::Igp)]
    origin: Origin,
    /// Let the route have this MED.
    #[arg(long)]
    med: Option<u32>,
    /// Let the route have this local preference.
    #[arg(long)]
    local_preference: Option<u32>,
    /// Try the way out of a node in this AS. Otherwise it is the way in.
    #[arg(long, value_name = "ASN")]
    out_of: Option<u32>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Origin {
    Igp,
    Egp,
    Incomplete,
}

/// The answer for programs.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    prefix: IpNetwork,
    /// `accepted`, `rejected`, or `undecided`: by the cluster's prefixes on the way in, sent on the way out.
    verdict: &'static str,
    /// Rules that match, the one that decides last.
    rules: Vec<Matched>,
    as_path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    local_preference: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    med: Option<u32>,
    communities: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Matched {
    filter: String,
    /// Counted from 0, as in the paths of fields.
    rule: usize,
    action: FilterAction,
}

pub(crate) fn run(command: &Command, output: Output) -> Result<Outcome> {
    let Command::Test(options) = command;
    let Input { objects, faults, .. } = Input::read(std::slice::from_ref(&options.file))?;
    if !faults.is_empty() {
        faults.iter().for_each(tell);
        return Ok(Outcome::Refused);
    }
    let all = objects.into_iter().filter_map(|(_, key, object)| match object {
        Object::BgpFilter(spec) => Some((key.name, spec.rules)),
        _ => None,
    });
    let rules = chosen(all.collect(), &options.filters)?;
    let answer = answer(options, &rules);
    print(output, &answer, text)?;
    Ok(Outcome::of(answer.verdict != "rejected"))
}

/// Every rule with the name of its filter and its place there.
type Rules = Vec<(String, usize, FilterRule)>;

fn chosen(all: Vec<(String, Vec<FilterRule>)>, names: &[String]) -> Result<Rules> {
    let chosen = if names.is_empty() {
        all
    } else {
        let find = |name: &String| match all.iter().find(|(filter, _)| filter == name) {
            Some(filter) => Ok(filter.clone()),
            None => bail!("there is no BGPFilter {name} in it"),
        };
        names.iter().map(find).collect::<Result<_>>()?
    };
    if chosen.is_empty() {
        bail!("there is no BGPFilter in it");
    }
    let rules = chosen.into_iter().flat_map(|(name, rules)| {
        rules.into_iter().enumerate().map(move |(index, rule)| (name.clone(), index, rule))
    });
    Ok(rules.collect())
}

fn answer(options: &Options, rules: &Rules) -> Answer {
    let route = Route {
        prefix: options.prefix.network(),
        as_path: options.as_path.clone(),
        origin: match options.origin {
            Origin::Igp => PathOrigin::Igp,
            Origin::Egp => PathOrigin::Egp,
            Origin::Incomplete => PathOrigin::Incomplete,
        },
        local_preference: options.local_preference,
        med: options.med,
        communities: options.communities.clone(),
    };
    let Verdict { accepted, rules: matched, as_path, local_preference, med, communities } =
        trial::run(rules.iter().map(|(_, _, rule)| rule), &route, options.out_of);
    let matched = matched.into_iter().filter_map(|at| rules.get(at));
    Answer {
        prefix: route.prefix,
        verdict: match accepted {
            Some(true) => "accepted",
            Some(false) => "rejected",
            None => "undecided",
        },
        rules: matched
            .map(|(filter, rule, written)| Matched {
                filter: filter.clone(),
                rule: *rule,
                action: written.action,
            })
            .collect(),
        as_path,
        local_preference,
        med,
        communities,
    }
}

fn text(answer: &Answer) -> String {
    let Answer { prefix, verdict, rules, as_path, local_preference, med, communities } = answer;
    let name = |Matched { filter, rule, .. }: &Matched| format!("BGPFilter {filter} spec.rules[{rule}]");
    let mut text = String::new();
    let (decides, before) = match rules.split_last() {
        Some((last, before)) if last.action != FilterAction::Next => (Some(last), before),
        _ => (None, rules.as_slice()),
    };
    for rule in before {
        let _ = writeln!(text, "{}: matches, and hands it on", name(rule));
    }
    let _ = match decides {
        Some(rule) => writeln!(text, "{}: {prefix} is {verdict}", name(rule)),
        None => writeln!(text, "no rule decides about {prefix}"),
    };
    if *verdict != "rejected" {
        let number =
            |number: &Option<u32>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
        let (local_preference, med) = (number(local_preference), number(med));
        let _ = writeln!(
            text,
            "as path: {as_path}\nlocal preference: {local_preference}\nmed: {med}\ncommunities: {}",
            communities.join(" ")
        );
    }
    text
}
