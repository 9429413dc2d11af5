//! Two readings as a column, several as a table.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::rest::Usage;
use super::meter::Reading;

/// What happened between two readings.
pub(super) struct Phase<'a> {
    pub(super) name: &'a str,
    pub(super) from: &'a Reading,
    pub(super) to: &'a Reading,
    /// It ends by itself: what it took in all counts, not how much a minute.
    pub(super) in_all: bool,
}

/// Median and largest.
struct Spread([f64; 2]);

/// Of times, in seconds.
pub(super) fn spread(times: &[Duration]) -> String {
    let Spread([median, most]) = Spread::of(times.iter().map(Duration::as_secs_f64));
    format!("after {median:.1} s (median), {most:.1} s (all)")
}

pub(super) fn print(phases: &[Phase<'_>]) {
    print_row("", phases, |phase| {
        let unit = if phase.in_all { "in all" } else { "a minute" };
        format!("{}, {:.0} s: {unit}", phase.name, phase.seconds())
    });
    println!("of an agent, median / largest");
    print_row("  API requests", phases, |phase| phase.requests().text(if phase.in_all { 0 } else { 2 }));
    print_row("  KB from the API server", phases, |phase| phase.bytes(0).text(0));
    print_row("  KB to it", phases, |phase| phase.bytes(1).text(0));
    print_row("  CPU", phases, |phase| phase.cpu().text(2) + if phase.in_all { " s" } else { " %" });
    print_row("  RSS at the end, MiB", phases, |phase| phase.memory(|usage| usage.rss).text(1));
    print_row("  its peak so far, MiB", phases, |phase| phase.memory(|usage| usage.peak).text(1));
    println!("in total");
    print_row("  writes to etcd", phases, |phase| phase.per(phase.to.puts - phase.from.puts));
    print_row("  of them by agents", phases, |phase| phase.per(phase.writes()));
    for (index, name) in ["  API server: CPU, RSS", "  etcd: CPU, RSS"].into_iter().enumerate() {
        print_row(name, phases, |phase| phase.server(index));
    }
    print_row("  the machine was idle", phases, |phase| format!("{:.0} %", phase.idle()));
    for phase in phases {
        println!("asked, {}: {:?}", phase.name, phase.kinds());
    }
}

fn print_row(what: &str, phases: &[Phase<'_>], cell: impl Fn(&Phase<'_>) -> String) {
    let cells: String = phases.iter().map(|phase| format!("{:>30}", cell(phase))).collect();
    println!("{what:26}{cells}");
}

impl Phase<'_> {
    fn seconds(&self) -> f64 {
        (self.to.at - self.from.at).as_secs_f64()
    }

    /// What a number of the whole phase is divided by.
    fn minutes(&self) -> f64 {
        if self.in_all { 1.0 } else { self.seconds() / 60.0 }
    }

    fn per(&self, number: f64) -> String {
        format!("{:.0}", number / self.minutes())
    }

    /// Those that are new: of each the node, and what was asked.
    fn asked(&self) -> impl Iterator<Item = &(String, String)> {
        self.to.asked.iter().filter(|(id, _)| !self.from.asked.contains_key(*id)).map(|(_, asked)| asked)
    }

    fn requests(&self) -> Spread {
        let mut of_nodes: BTreeMap<&str, usize> =
            self.to.agents.keys().map(|node| (node.as_str(), 0)).collect();
        self.asked().for_each(|(node, _)| *of_nodes.entry(node).or_default() += 1);
        Spread::of(of_nodes.values().map(|number| *number as f64 / self.minutes()))
    }

    fn kinds(&self) -> BTreeMap<&str, usize> {
        let mut kinds = BTreeMap::new();
        self.asked().for_each(|(_, what)| *kinds.entry(what.as_str()).or_default() += 1);
        kinds
    }

    fn writes(&self) -> f64 {
        let is_write = |what: &str| what.starts_with("patch ") || what.starts_with("create ");
        self.asked().filter(|(_, what)| is_write(what)).count() as f64
    }

    /// One way, in KB.
    fn bytes(&self, way: usize) -> Spread {
        let before = |node: &str| self.from.bytes.get(node).map_or(0, |bytes| bytes[way]);
        let each = self.to.bytes.iter().map(|(node, bytes)| bytes[way].saturating_sub(before(node)) as f64);
        Spread::of(each.map(|bytes| bytes / 1000.0 / self.minutes()))
    }

    /// Of the processes that run at the end; those that were not there before began with nothing.
    fn cpu(&self) -> Spread {
        let used = self.to.agents.iter().map(|(node, (pid, usage))| match self.from.agents.get(node) {
            Some((same, before)) if same == pid => usage.cpu.saturating_sub(before.cpu),
            _ => usage.cpu,
        });
        Spread::of(used.map(|used| self.cpu_of(used)))
    }

    /// In seconds, or in per cent of a core.
    fn cpu_of(&self, used: Duration) -> f64 {
        if self.in_all { used.as_secs_f64() } else { used.as_secs_f64() / self.seconds() * 100.0 }
    }

    fn memory(&self, of: impl Fn(&Usage) -> u64) -> Spread {
        Spread::of(self.to.agents.values().map(|(_, usage)| of(usage) as f64 / 1024.0))
    }

    fn server(&self, index: usize) -> String {
        let (before, after) = (&self.from.servers[index], &self.to.servers[index]);
        let cpu = self.cpu_of(after.cpu.saturating_sub(before.cpu));
        let unit = if self.in_all { "s" } else { "%" };
        format!("{cpu:.0} {unit}, {:.0} MiB", after.rss as f64 / 1024.0)
    }

    /// In per cent of all cores.
    fn idle(&self) -> f64 {
        let [all, idle] =
            [0, 1].map(|index| self.to.ticks[index].saturating_sub(self.from.ticks[index]) as f64);
        idle / all * 100.0
    }
}

impl Spread {
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut values: Vec<_> = values.collect();
        values.sort_unstable_by(f64::total_cmp);
        let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
        Self([at(values.len() / 2), at(values.len().saturating_sub(1))])
    }

    fn text(&self, digits: usize) -> String {
        let Self([median, most]) = self;
        format!("{median:.digits$} / {most:.digits$}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_the_median_and_the_largest() {
        let seconds = [5, 1, 2, 9, 3].map(Duration::from_secs);
        assert_eq!(spread(&seconds), "after 3.0 s (median), 9.0 s (all)");
    }
}
