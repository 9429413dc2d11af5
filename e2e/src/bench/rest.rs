//! Agents while nothing happens: their memory, their CPU, and what they ask of the API server.
//!
//! The API server's audit log counts: each request once, a watch when it is opened. Servers end watches after five to ten
//! minutes, so a rest shorter than that may see none opened anew; that the log counts at all is checked first.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::cluster::Cluster;

const AGENT: &str = "system:serviceaccount:weft-system:weft-agent";
/// Clock ticks of /proc/PID/stat in a second.
const TICKS: f64 = 100.0;

/// What the kernel says of one process; sizes in KiB.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Usage {
    pub(super) rss: u64,
    anonymous: u64,
    /// The highest that `rss` has been.
    pub(super) peak: u64,
    pub(super) cpu: Duration,
}

/// Prints it all, per node.
pub(super) fn measure(cluster: &Cluster, rest: Duration) -> Result<()> {
    // What was done last has its consequences before.
    thread::sleep(rest / 4);
    let known = requests(cluster)?;
    // Each agent has opened its watches.
    ensure!(!known.is_empty(), "the audit log does not count what agents ask");
    let nodes: Vec<_> = cluster.lab().plan().nodes.iter().map(|node| node.name.as_str()).collect();
    let usages = || nodes.iter().map(|node| usage(cluster, node)).collect::<Result<Vec<_>>>();
    let before = usages()?;
    // Not a wait for a condition: this time is what is measured.
    thread::sleep(rest);
    let (after, asked) = (usages()?, asked_since(&known, &requests(cluster)?));

    let minutes = rest.as_secs_f64() / 60.0;
    let number: usize = asked.values().sum();
    let per_minute = number as f64 / nodes.len() as f64 / minutes;
    println!("at rest for {} s: {per_minute:.2} API requests a minute and node {asked:?}", rest.as_secs());
    for ((node, before), after) in nodes.iter().zip(before).zip(after) {
        let [rss, anonymous, peak] = [after.rss, after.anonymous, after.peak].map(|kib| kib as f64 / 1024.0);
        let cpu = after.cpu.saturating_sub(before.cpu).as_secs_f64() / minutes;
        println!(
            "  agent of {node}: RSS {rss:.1} MiB ({anonymous:.1} anonymous, peak {peak:.1}), CPU {cpu:.2} s a minute"
        );
    }
    Ok(())
}

/// What agents have asked since the API server started: the request's id, and what it was.
fn requests(cluster: &Cluster) -> Result<BTreeMap<String, String>> {
    Ok(cluster.audited()?.iter().filter_map(request).collect())
}

/// A watch has two events, when it begins and when it ends.
pub(super) fn request(event: &Value) -> Option<(String, String)> {
    let text = |path| event.pointer(path).and_then(Value::as_str);
    (text("/user/username") == Some(AGENT)).then_some(())?;
    let what = format!("{} {}", text("/verb")?, text("/objectRef/resource").unwrap_or("-"));
    Some((text("/auditID")?.to_owned(), what))
}

fn asked_since(known: &BTreeMap<String, String>, all: &BTreeMap<String, String>) -> BTreeMap<String, usize> {
    let known: BTreeSet<_> = known.keys().collect();
    let mut asked = BTreeMap::new();
    for (_, what) in all.iter().filter(|(id, _)| !known.contains(id)) {
        *asked.entry(what.clone()).or_default() += 1;
    }
    asked
}

fn usage(cluster: &Cluster, node: &str) -> Result<Usage> {
    let text =
        cluster.lab().shell(node, "pid=$(pgrep -x weft-agent); cat /proc/$pid/status /proc/$pid/stat")?;
    parse_usage(&text)
}

/// Of a process by its id here.
pub(super) fn usage_of(pid: i32) -> Result<Usage> {
    let read = |file: &str| {
        let path = format!("/proc/{pid}/{file}");
        fs::read_to_string(&path).context(path)
    };
    parse_usage(&(read("status")? + &read("stat")?))
}

/// Of `status`, then `stat`.
pub(super) fn parse_usage(text: &str) -> Result<Usage> {
    let size = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).context(name.to_owned())?;
        line.split_whitespace().next().context("a size")?.parse::<u64>().context(name.to_owned())
    };
    // The program's name stands in parentheses and may hold spaces; the third field follows it.
    let stat = text.trim_end().rsplit_once(')').context("a stat line")?.1;
    let fields: Vec<&str> = stat.split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).context("a stat line")?.parse::<u32>().context("ticks");
    let cpu = Duration::from_secs_f64(f64::from(ticks(11)? + ticks(12)?) / TICKS);
    Ok(Usage { rss: size("VmRSS:")?, anonymous: size("RssAnon:")?, peak: size("VmHWM:")?, cpu })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(id: &str, user: &str, verb: &str, stage: &str) -> Value {
        json!({ "auditID": id, "stage": stage, "verb": verb, "user": { "username": user }, "objectRef": { "resource": "pods" } })
    }

    #[test]
    fn a_watch_counts_once_and_when_it_is_opened() {
        let before =
            [event("1", AGENT, "watch", "ResponseStarted"), event("2", "kubelet", "get", "ResponseComplete")];
        let later = [
            event("1", AGENT, "watch", "ResponseComplete"),
            event("3", AGENT, "watch", "ResponseStarted"),
            event("3", AGENT, "watch", "ResponseComplete"),
            event("4", "kubelet", "get", "ResponseComplete"),
        ];
        let known: BTreeMap<_, _> = before.iter().filter_map(request).collect();
        let all: BTreeMap<_, _> = before.iter().chain(&later).filter_map(request).collect();
        assert_eq!(asked_since(&known, &all), [("watch pods".to_owned(), 1)].into());
    }

    #[test]
    fn usage_is_read_from_two_files_of_proc() {
        let text = "Name:\tweft-agent\nVmHWM:\t   30000 kB\nVmRSS:\t   20000 kB\nRssAnon:\t   9000 kB\n\
                    7 (weft agent) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 9 0 100 1 2\n";
        let usage = parse_usage(text).unwrap();
        assert_eq!(usage, Usage { rss: 20000, anonymous: 9000, peak: 30000, cpu: Duration::from_secs(3) });
    }
}
