//! Upstream's own suites on a cluster with Weft: nobody here wrote them, so they hold us to what users expect.
//!
//! In: which suite. Out: ginkgo's words while it runs, a table, and `junit.xml` and `report.json` in a folder. The cluster
//! is one of [`crate::cluster`], with CoreDNS in it as users have it; the suites run on its control machine.

mod report;
mod suite;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

pub use report::{Report, Spec};
pub use suite::Suite;

use crate::cluster::{Binaries, Cluster, ClusterSpec, Scope};
use crate::lab::CONTROL;

/// The image of `e2e/kubernetes/images`: agnhost with the shells and resolvers that the suites execute in it.
const SUITE_IMAGE: &str = "weft.test/suite:1";
/// Upstream's images by the start of their names, and ours that stands in for each. The versions are the suite's affair.
const STAND_INS: [(&str, &str); 3] = [
    ("registry.k8s.io/e2e-test-images/agnhost:", SUITE_IMAGE),
    ("registry.k8s.io/e2e-test-images/jessie-dnsutils:", SUITE_IMAGE),
    ("registry.k8s.io/pause:", crate::cluster::PAUSE),
];
const COREDNS: &str = include_str!("../../kubernetes/coredns.yaml");
/// There are no SCTP sockets in many kernels; a spec without them hangs for minutes and proves nothing.
const SKIP: &str = "SCTP";
/// All suites take under an hour; more is a hang.
const LIMIT: Duration = Duration::from_secs(2 * 3600);

#[derive(Clone, Debug)]
pub struct Options {
    pub suite: Suite,
    /// Instead of the suite's own choice.
    pub focus: Option<String>,
    /// Specs at a time.
    pub procs: u8,
    /// Where the reports go.
    pub out: PathBuf,
}

/// What a cluster for the suites needs, built before there is a cluster.
#[derive(Debug)]
pub struct Kit {
    binaries: Binaries,
}

impl Kit {
    /// The suites' programs and images; minutes the first time, nothing later.
    pub fn build() -> Result<Self> {
        let binaries = Binaries::build(Scope::Suites)?;
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("kubernetes/images");
        let status = Command::new(&script).arg(binaries.dir()).stdout(Stdio::null()).status();
        let status = status.with_context(|| script.display().to_string())?;
        ensure!(status.success(), "{}: {status}", script.display());
        Ok(Self { binaries })
    }

    /// Loads the images under the names that the suites ask for, and starts the cluster's DNS.
    pub fn install(&self, cluster: &Cluster) -> Result<()> {
        let dir = self.binaries.dir();
        cluster.import(&[&dir.join("suite.tar"), &dir.join("coredns.tar")])?;
        for (theirs, ours) in self.stand_ins()? {
            cluster.tag(ours, &theirs)?;
        }
        cluster.apply(COREDNS)?;
        let words = ["-n", "kube-system", "rollout", "status", "deployment/coredns", "--timeout=120s"];
        cluster.kubectl(&words).map(drop)
    }

    /// Runs the suite against the cluster, with ginkgo's output on the terminal.
    pub fn run(&self, cluster: &Cluster, options: &Options) -> Result<Report> {
        // The control machine has its own /run, so the reports are written where every machine sees the same.
        let results = cluster.lab().dir().join("results");
        fs::create_dir_all(&results)?;
        let mut ginkgo = self.ginkgo(cluster, options, &results)?;
        // Its exit code says whether specs failed, and so does the report.
        cluster.lab().machine(CONTROL)?.exec(None, &mut ginkgo)?;
        let json = fs::read_to_string(results.join("report.json")).context("ginkgo wrote no report")?;
        fs::create_dir_all(&options.out)?;
        for file in ["report.json", "junit.xml"] {
            fs::copy(results.join(file), options.out.join(file)).context(file)?;
        }
        Report::parse(&json)
    }

    fn ginkgo(&self, cluster: &Cluster, options: &Options, results: &Path) -> Result<Command> {
        let mut ginkgo = Command::new(self.binaries.path("ginkgo")?);
        ginkgo.current_dir(results);
        ginkgo.args([
            "--no-color",
            "--silence-skips",
            "--junit-report=junit.xml",
            "--json-report=report.json",
        ]);
        ginkgo.arg(format!("--output-dir={}", results.display()));
        ginkgo.arg(format!("--procs={}", options.procs)).arg(format!("--timeout={}s", LIMIT.as_secs()));
        match &options.focus {
            Some(focus) => drop(ginkgo.arg(format!("--focus={focus}"))),
            None => drop(ginkgo.args(options.suite.focus().iter().map(|focus| format!("--focus={focus}")))),
        }
        ginkgo.arg(format!("--skip={SKIP}")).arg(self.binaries.path("e2e.test")?).arg("--");
        ginkgo.arg(format!("--kubeconfig={}", cluster.kubeconfig().display()));
        ginkgo.arg(format!("--kubectl-path={}", self.binaries.path("kubectl")?.display()));
        ginkgo.args([
            "--provider=local".to_owned(),
            format!("--num-nodes={}", cluster.lab().plan().nodes.len()),
        ]);
        Ok(ginkgo)
    }

    /// Upstream's image names at this version, with ours.
    fn stand_ins(&self) -> Result<Vec<(String, &'static str)>> {
        let output = Command::new(self.binaries.path("e2e.test")?).arg("--list-images").output()?;
        ensure!(output.status.success(), "e2e.test --list-images: {}", output.status);
        let names = String::from_utf8(output.stdout)?;
        let found: Vec<_> = names.lines().filter_map(stand_in).collect();
        ensure!(found.len() >= STAND_INS.len(), "e2e.test asks for other images than {STAND_INS:?}");
        Ok(found)
    }
}

fn stand_in(theirs: &str) -> Option<(String, &'static str)> {
    let (_, ours) = STAND_INS.iter().find(|(start, _)| theirs.starts_with(start))?;
    Some((theirs.to_owned(), ours))
}

/// A cluster for the suites, from nothing to CoreDNS.
pub fn raise(name: &str, spec: &ClusterSpec, kit: &Kit, programs: &crate::lab::Programs) -> Result<Cluster> {
    let cluster = Cluster::raise(name, spec, programs)?;
    cluster.load_weft_image()?;
    cluster.install_weft(&[])?;
    kit.install(&cluster)?;
    Ok(cluster)
}
