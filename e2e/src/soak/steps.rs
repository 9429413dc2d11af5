//! What can happen, as a line of text each: a story is a file of such lines.
//!
//! ```text
//! # racks: bird+frr:2 bird:1
//! # seed: 7
//! {"start-pod":{"pod":"red/p1","node":"node1","labels":{"app":"web"}}}
//! {"kill-agent":{"node":"node1"}}
//! "quiet"
//! ```

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::topology::{Cable, Session};
use super::world::{Labels, Policy};
use crate::lab::{LabSpec, RackSpec};

/// The comments that name the lab of a story, and what its conversations are drawn from: 0 if there is none.
const RACKS: &str = "# racks:";
const SEED: &str = "# seed:";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Step {
    StartPod {
        pod: String,
        node: String,
        labels: Labels,
    },
    EndPod {
        pod: String,
    },
    /// A pod that begins where it may fail, and ends in any case: nothing of it may remain.
    AttemptPod {
        pod: String,
        node: String,
    },
    LabelPod {
        pod: String,
        labels: Labels,
    },
    LabelNamespace {
        namespace: String,
        labels: Labels,
    },
    ApplyPolicy {
        policy: String,
        spec: Policy,
    },
    DeletePolicy {
        policy: String,
    },
    /// SIGKILL.
    KillAgent {
        node: String,
    },
    StartAgent {
        node: String,
    },
    /// SIGTERM, and the next one.
    UpgradeAgent {
        node: String,
    },
    /// For good: peers get a Cease.
    StopAgent {
        node: String,
    },
    Cut {
        cable: Cable,
    },
    Mend {
        cable: Cable,
    },
    PowerOff {
        tor: String,
    },
    PowerOn {
        tor: String,
    },
    /// Its daemons are killed and start again; its switch goes on.
    RestartRouter {
        tor: String,
    },
    /// By the router's operator.
    DisableSession(Session),
    EnableSession(Session),
    /// The BGPPeer objects of a router's nodes, of one family.
    DeletePeer {
        tor: String,
        v6: bool,
    },
    ApplyPeer {
        tor: String,
        v6: bool,
    },
    /// Behind the agent's back.
    FlushRoutes {
        node: String,
    },
    FlushRules {
        node: String,
    },
    /// No octet more can be written below `/run/weft`.
    FillDisk {
        node: String,
    },
    FreeDisk {
        node: String,
    },
    StopApi,
    StartApi,
    /// What was begun is waited for and looked at.
    Quiet,
}

impl Step {
    /// Ends a process that did not expect it.
    pub fn kills(&self) -> bool {
        matches!(
            self,
            Self::KillAgent { .. } | Self::PowerOff { .. } | Self::RestartRouter { .. } | Self::StopApi
        )
    }
}

impl fmt::Display for Step {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
}

impl FromStr for Step {
    type Err = anyhow::Error;

    fn from_str(line: &str) -> Result<Self> {
        serde_json::from_str(line).with_context(|| line.to_owned())
    }
}

/// A lab, and what happens in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Story {
    pub racks: Vec<String>,
    pub seed: u64,
    pub steps: Vec<Step>,
}

impl Story {
    pub fn lab(&self) -> Result<LabSpec> {
        let racks = self.racks.iter().map(|rack| rack.parse::<RackSpec>()).collect::<Result<_>>()?;
        Ok(LabSpec { racks, ..LabSpec::default() })
    }
}

impl fmt::Display for Story {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "{RACKS} {}\n{SEED} {}", self.racks.join(" "), self.seed)?;
        self.steps.iter().try_for_each(|step| writeln!(out, "{step}"))
    }
}

impl FromStr for Story {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let comment = |name| text.lines().find_map(|line| line.strip_prefix(name));
        let racks = comment(RACKS);
        let racks = racks.with_context(|| format!("a story has a line `{RACKS} …`"))?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        Ok(Self {
            racks: racks.split_whitespace().map(str::to_owned).collect(),
            seed: comment(SEED).map_or(Ok(0), |seed| seed.trim().parse())?,
            steps: lines.map(str::parse).collect::<Result<_>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_story_reads_back_as_it_was_written() {
        let text = r#"# racks: bird+frr:2 bird:1
# seed: 7
{"start-pod":{"pod":"red/p1","node":"node1","labels":{"app":"web"}}}
{"apply-policy":{"policy":"red/n1","spec":{"podSelector":{},"policyTypes":["Ingress"],"ingress":[{"from":[{"ipBlock":{"cidr":"10.244.1.0/24"}}]}]}}}
{"cut":{"cable":"tor1a-spine"}}
{"disable-session":{"node":"node1","tor":"tor1b","v6":true}}
"quiet"
"#;
        let story: Story = text.parse().unwrap();
        assert_eq!(story.to_string(), text);
        assert_eq!(story.lab().unwrap(), LabSpec::racks(["bird+frr:2", "bird:1"]));
        assert_eq!(story.steps[2], Step::Cut { cable: "tor1a-spine".parse().unwrap() });
    }

    #[test]
    fn a_line_that_is_no_step_is_named() {
        let error = "# racks: bird:1\n{\"jump\":{}}\n".parse::<Story>().unwrap_err();
        assert!(format!("{error:#}").contains("jump"), "{error:#}");
        assert!("\"quiet\"".parse::<Story>().is_err(), "without a lab");
    }
}
