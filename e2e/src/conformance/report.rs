//! What came of each spec, from ginkgo's JSON report, as a table. Pure.

use std::fmt;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Deserialize;

/// The specs that were chosen; what the focus left out is not in it.
#[derive(Debug, Default, PartialEq)]
pub struct Report {
    pub passed: usize,
    pub failed: Vec<Spec>,
    /// By the suite itself, for want of something in the cluster.
    pub skipped: Vec<Spec>,
    /// The longest; what a run cannot be shorter than.
    pub slowest: Duration,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Spec {
    pub name: String,
    /// The suite's own words.
    pub reason: String,
}

/// The fields of ginkgo's `types.Report` and `types.SpecReport` that are read here.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawReport {
    spec_reports: Option<Vec<RawSpec>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawSpec {
    container_hierarchy_texts: Option<Vec<String>>,
    leaf_node_type: String,
    #[serde(default)]
    leaf_node_text: String,
    state: String,
    /// Nanoseconds.
    #[serde(default)]
    run_time: u64,
    failure: Option<RawFailure>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawFailure {
    #[serde(default)]
    message: String,
}

impl Report {
    pub fn parse(json: &str) -> Result<Self> {
        let raw: Vec<RawReport> = serde_json::from_str(json).context("ginkgo's report")?;
        let mut report = Self::default();
        for spec in raw.into_iter().flat_map(|raw| raw.spec_reports.unwrap_or_default()) {
            report.add(spec);
        }
        Ok(report)
    }

    pub fn succeeded(&self) -> bool {
        self.failed.is_empty() && self.passed > 0
    }

    fn add(&mut self, raw: RawSpec) {
        let time = Duration::from_nanos(raw.run_time);
        let (is_spec, state) = (raw.leaf_node_type == "It", raw.state.clone());
        let spec = Spec::from(raw);
        match state.as_str() {
            "passed" if is_spec => self.passed += 1,
            // A set-up or clean-up of the whole suite is worth a word only when it fails.
            "passed" | "pending" => return,
            // What the focus leaves out is skipped too, and nobody says why.
            "skipped" if spec.reason.is_empty() => return,
            "skipped" => self.skipped.push(spec),
            _ => self.failed.push(spec),
        }
        self.slowest = self.slowest.max(time);
    }
}

impl From<RawSpec> for Spec {
    fn from(raw: RawSpec) -> Self {
        let mut words = raw.container_hierarchy_texts.unwrap_or_default();
        words.push(if raw.leaf_node_text.is_empty() { raw.leaf_node_type } else { raw.leaf_node_text });
        Self { name: words.join(" "), reason: raw.failure.map(|failure| failure.message).unwrap_or_default() }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "{:>4} passed, the slowest in {} s", self.passed, self.slowest.as_secs())?;
        for (specs, what) in [(&self.failed, "failed"), (&self.skipped, "skipped")] {
            writeln!(out, "{:>4} {what}", specs.len())?;
            for spec in specs {
                let reason = spec.reason.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
                writeln!(out, "       {}\n         {}", spec.name, reason.trim())?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JSON: &str = r#"[{ "SuiteSucceeded": false, "SpecReports": [
        { "ContainerHierarchyTexts": null, "LeafNodeType": "SynchronizedBeforeSuite", "State": "passed", "RunTime": 99000000000 },
        { "ContainerHierarchyTexts": ["[sig-network] Netpol"], "LeafNodeType": "It", "LeafNodeText": "denies", "State": "passed", "RunTime": 70000000000 },
        { "ContainerHierarchyTexts": ["[sig-network] Netpol"], "LeafNodeType": "It", "LeafNodeText": "elsewhere", "State": "skipped", "RunTime": 0 },
        { "ContainerHierarchyTexts": ["[sig-network] Netpol"], "LeafNodeType": "It", "LeafNodeText": "needs a cloud", "State": "skipped", "RunTime": 1,
          "Failure": { "Message": "Only supported for providers [gce]" } },
        { "ContainerHierarchyTexts": ["[sig-network] HostPort", "pods"], "LeafNodeType": "It", "LeafNodeText": "answers", "State": "timedout", "RunTime": 5,
          "Failure": { "Message": "\nA suite timeout occurred\nmore" } } ] }]"#;

    #[test]
    fn only_chosen_specs_count_and_whatever_is_not_a_pass_is_a_failure() {
        let report = Report::parse(JSON).unwrap();
        assert!(!report.succeeded());
        assert_eq!(report.slowest, Duration::from_secs(70));
        assert_eq!(
            report.to_string(),
            "   1 passed, the slowest in 70 s\n   1 failed\n       [sig-network] HostPort pods answers\n         A suite timeout occurred\n   1 skipped\n       [sig-network] Netpol needs a cloud\n         Only supported for providers [gce]\n"
        );
    }

    #[test]
    fn a_failed_set_up_has_a_name() {
        let json = r#"[{ "SpecReports": [{ "LeafNodeType": "SynchronizedBeforeSuite", "State": "failed", "Failure": { "Message": "no nodes" } }] }]"#;
        assert_eq!(Report::parse(json).unwrap().failed[0].name, "SynchronizedBeforeSuite");
    }

    #[test]
    fn a_focus_that_matches_nothing_is_no_success() {
        assert!(!Report::parse(r#"[{ "SpecReports": null }]"#).unwrap().succeeded());
    }
}
