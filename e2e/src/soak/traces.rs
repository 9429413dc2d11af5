//! What of ours is on a node: links, routes, elements of the table, addresses and journal; and what should be.
//!
//! Read with the kernel's own tools, and compared as text, so that it is understood when it differs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::net::IpAddr;

use anyhow::{Context, Result};
use ipnetwork::IpNetwork;
use serde_json::Value;

use crate::lab::POD_CIDRS;

/// Names of our links begin so.
const LINK: &str = "weft";

/// Prefix to gateways; none where the kernel needs none.
pub type Routes = BTreeMap<String, BTreeSet<String>>;

/// `ip -j route show` in the words of [`Routes`].
pub fn routes(json: &str) -> Result<Routes> {
    let routes: Vec<Value> = serde_json::from_str(json.trim()).context("routes")?;
    let gateway = |hop: &Value| {
        let address = hop["gateway"].as_str().or_else(|| hop["via"]["host"].as_str());
        address.map(str::to_owned)
    };
    let mut all = Routes::new();
    for route in &routes {
        let prefix = route["dst"].as_str().context("a route without dst")?.to_owned();
        let hops = route["nexthops"].as_array().into_iter().flatten();
        all.entry(prefix).or_default().extend(hops.chain([route]).filter_map(gateway));
    }
    Ok(all)
}

/// Our links in `ip -o link show`.
pub fn links(text: &str) -> usize {
    text.lines()
        .filter_map(|line| line.split_whitespace().nth(1))
        .filter(|name| name.starts_with(LINK))
        .count()
}

/// Pods' addresses that a table names, each by itself, not as part of a range.
pub fn pod_addresses(table: &str) -> BTreeSet<IpAddr> {
    let ranges = POD_CIDRS.map(|cidr| cidr.parse::<IpNetwork>().expect("a literal CIDR"));
    let words = table.split(|letter: char| letter.is_whitespace() || ",{}".contains(letter));
    let addresses = words.filter_map(|word| word.parse::<IpAddr>().ok());
    addresses.filter(|address| ranges.iter().any(|range| range.contains(*address))).collect()
}

/// The addresses of each container in `weftctl ipam show -o json`.
pub fn allocations(json: &str) -> Result<BTreeSet<BTreeSet<IpAddr>>> {
    let ipam: Value = serde_json::from_str(json).context("ipam")?;
    ipam["allocations"].as_array().context("allocations")?.iter().map(held).collect()
}

fn held(allocation: &Value) -> Result<BTreeSet<IpAddr>> {
    let mut held = BTreeSet::new();
    for address in allocation["addresses"].as_array().context("addresses")? {
        held.insert(address.as_str().context("an address")?.parse()?);
    }
    Ok(held)
}

/// The containers that a journal has not let go of: what was allocated and not freed.
pub fn journalled(journal: &str) -> Result<BTreeSet<String>> {
    let mut alive = BTreeSet::new();
    for line in journal.lines() {
        let (_, record) = line.split_once(' ').with_context(|| format!("a torn line: {line}"))?;
        let record: Value = serde_json::from_str(record).with_context(|| line.to_owned())?;
        let container = |pointer| record.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        match record["op"].as_str() {
            Some("alloc") => alive.extend(container("/attachment/id/container_id")),
            Some("free") => drop(container("/id/container_id").map(|container| alive.remove(&container))),
            _ => {}
        }
    }
    Ok(alive)
}

/// A sentence when they differ: what is there and should not be, and what should be and is not.
pub fn difference<T: Ord + Debug>(what: &str, have: &BTreeSet<T>, want: &BTreeSet<T>) -> Option<String> {
    let (extra, missing): (Vec<_>, Vec<_>) =
        (have.difference(want).collect(), want.difference(have).collect());
    (have != want).then(|| format!("{what}: left over {extra:?}, missing {missing:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_with_one_and_several_next_hops_and_with_none() {
        let json = r#"[{"type":"blackhole","dst":"10.244.1.0/24","protocol":"87"},
            {"dst":"10.244.1.2","dev":"weft1"},
            {"dst":"10.244.3.0/24","gateway":"10.1.10.1","dev":"eth0"},
            {"dst":"198.51.100.0/24","nexthops":[{"gateway":"10.1.10.1"},{"gateway":"10.1.11.1"}]}]"#;
        let routes = routes(json).unwrap();
        let gateways = |prefix: &str| routes[prefix].iter().map(String::as_str).collect::<Vec<_>>();
        assert!(gateways("10.244.1.0/24").is_empty() && gateways("10.244.1.2").is_empty());
        assert_eq!(gateways("10.244.3.0/24"), ["10.1.10.1"]);
        assert_eq!(gateways("198.51.100.0/24"), ["10.1.10.1", "10.1.11.1"]);
    }

    #[test]
    fn a_pod_that_a_table_names_is_found_and_a_range_is_none() {
        let table =
            "elements = { 10.244.1.2 : goto x, \"weft1\" . fd00:10:244:1::2, 10.244.3.0/24, 10.1.10.1 }";
        let found: Vec<_> = pod_addresses(table).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["10.244.1.2", "fd00:10:244:1::2"]);
    }

    #[test]
    fn a_journal_holds_what_was_not_freed() {
        let journal = r#"00 {"weft_cni_journal":1,"boot_id":"b"}
00 {"op":"alloc","attachment":{"id":{"container_id":"a","ifname":"eth0"}}}
00 {"op":"alloc","attachment":{"id":{"container_id":"b","ifname":"eth0"}}}
00 {"op":"release","id":{"container_id":"a","ifname":"eth0"}}
00 {"op":"free","id":{"container_id":"a","ifname":"eth0"},"at":{"secs":1,"nanos":0}}
"#;
        assert_eq!(journalled(journal).unwrap(), ["b".to_owned()].into());
        assert!(journalled("torn").is_err());
    }

    #[test]
    fn a_difference_names_both_sides() {
        let (have, want) = ([1, 2].into(), [2, 3].into());
        assert_eq!(difference("links", &have, &want).unwrap(), "links: left over [1], missing [3]");
        assert_eq!(difference("links", &have, &have), None);
    }
}
