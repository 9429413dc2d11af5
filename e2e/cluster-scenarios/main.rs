//! The life of a cluster: stories on a real Kubernetes, told in order, proved by traffic. One story per file.
//!
//! Raising a cluster takes half a minute, so the stories of one kind of cluster share one: each keeps to a Kubernetes
//! namespace of its own and leaves the cluster as it found it. A story can be told alone (its name is the argument; part
//! of it is enough), and on a cluster that is there: `WEFT_CLUSTER=NAME`, from `weft-e2e cluster up`, spares the raising.
//!
//! These need root, what `make setup-cluster` installs, and static programs: `make cluster-scenarios`.

#![expect(clippy::unwrap_used, reason = "in a story it is an assertion")]

mod agent_rolled;
mod chart;
mod install;
mod jobs;
mod kube_proxy;
mod nodes;
mod operators;
mod outages;
mod policy;
mod rights;
mod scaled;
mod sessions;
mod stolen_token;
mod story;
mod weftctl;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;

use weft_e2e::cluster::{self, Cluster, ClusterSpec, ProxyMode};
use weft_e2e::lab::LabSpec;

use crate::story::programs;

/// What one story does to a cluster that has Weft.
type Tell = fn(&Cluster);

/// A kind of cluster, and its stories.
struct Book {
    name: &'static str,
    spec: fn() -> ClusterSpec,
    stories: &'static [(&'static str, Tell)],
}

const BOOKS: &[Book] = &[
    Book {
        name: "life",
        spec: ClusterSpec::default,
        stories: &[
            ("pods_talk_where_weft_is_installed", install::pods_talk),
            ("kube_proxy_in_nftables_mode", kube_proxy::nftables),
            ("agents_rolled_and_killed_lose_nothing", agent_rolled::nothing_is_lost),
            ("a_policy_is_in_force_on_every_node", policy::in_force_on_every_node),
            ("a_policy_follows_the_label_of_a_namespace", policy::follows_the_label_of_a_namespace),
            ("the_api_server_is_gone_for_minutes", outages::api_server_is_gone_for_minutes),
            ("containerd_and_kubelet_are_killed", outages::daemons_of_a_node_are_killed),
            ("a_node_is_drained_deleted_and_added", nodes::drained_deleted_and_added),
            ("a_node_is_rebooted", nodes::rebooted),
            ("a_pod_cidr_comes_late", nodes::a_pod_cidr_comes_late),
            ("objects_tell_whether_they_are_accepted", chart::objects_tell_whether_they_are_accepted),
            ("crds_follow_the_chart", chart::crds_follow_the_chart),
            ("sessions_are_counted_on_their_peer", sessions::are_counted_on_their_peer),
            ("agents_ask_for_what_they_may", rights::of_the_api_server_what_they_ask_for),
            ("agents_have_few_rights_on_their_node", rights::on_their_node_what_they_need),
            ("an_operator_reads_and_does_nothing_else", operators::read_and_do_nothing_else),
            ("a_stolen_token_is_of_little_use", stolen_token::is_of_little_use),
            (
                "the_dashboard_and_alerts_show_what_agents_measure",
                chart::the_dashboard_and_alerts_show_what_agents_measure,
            ),
            ("examples_are_accepted", chart::examples_are_accepted),
            ("helm_test_passes", chart::helm_test_passes),
            ("the_package_is_installed_with_every_value", chart::the_package_is_installed_with_every_value),
            ("weftctl_answers_from_anywhere", weftctl::answers_from_anywhere),
            ("weftctl_says_the_same_on_a_node", weftctl::says_the_same_on_a_node),
            ("weftctl_writes_objects", weftctl::writes_objects),
            ("weftctl_validates_as_agents_do", weftctl::validates_as_agents_do),
            ("a_deployment_comes_and_goes_without_a_trace", scaled::no_trace),
            ("weft_is_uninstalled_and_cleaned_up", chart::uninstalled_and_cleaned_up),
        ],
    },
    Book {
        name: "small",
        spec: iptables_and_few_addresses,
        stories: &[
            ("kube_proxy_in_iptables_mode", kube_proxy::iptables),
            ("an_address_of_a_completed_job_is_used_again", jobs::address_is_used_again),
        ],
    },
];

fn iptables_and_few_addresses() -> ClusterSpec {
    let lab = LabSpec::racks(["bird:2"]);
    ClusterSpec { lab, proxy: ProxyMode::Iptables, node_mask: 29, ..ClusterSpec::default() }
}

fn main() -> ExitCode {
    // What libtest knows and we do not (`--test-threads=1`) is no name of a story.
    let wanted: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let chosen = |name: &str| wanted.is_empty() || wanted.iter().any(|part| name.contains(part));
    let mut failed = Vec::new();
    for book in BOOKS {
        let stories: Vec<_> = book.stories.iter().filter(|(name, _)| chosen(name)).collect();
        if !stories.is_empty() {
            failed.extend(book.tell(&stories));
        }
    }
    if failed.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("failed: {}", failed.join(", "));
    ExitCode::FAILURE
}

impl Book {
    /// The names of the stories that failed.
    fn tell(&self, stories: &[&(&'static str, Tell)]) -> Vec<&'static str> {
        let existing = std::env::var("WEFT_CLUSTER").ok();
        let name = existing.clone().unwrap_or_else(|| format!("{}-{}", self.name, std::process::id()));
        let mut failed = Vec::new();
        let cluster = outcome("cluster_is_installed", || match &existing {
            Some(name) => Cluster::attach(name, &programs()).unwrap(),
            None => install::on_a_cluster_that_has_none(&name, &(self.spec)()),
        });
        let Some(cluster) = cluster else { return vec!["cluster_is_installed"] };
        for (story, tell) in stories {
            if outcome(story, || tell(&cluster)).is_none() {
                failed.push(*story);
            }
        }
        drop(cluster);
        if existing.is_none() && outcome("cluster_goes_away", || cluster::down(&name).unwrap()).is_none() {
            failed.push("cluster_goes_away");
        }
        failed
    }
}

/// Prints how it ended and how long it took; the panic has said why.
fn outcome<T>(name: &str, tell: impl FnOnce() -> T) -> Option<T> {
    println!("story {name} ...");
    let start = Instant::now();
    let told = catch_unwind(AssertUnwindSafe(tell)).ok();
    let verdict = if told.is_some() { "ok" } else { "FAILED" };
    println!("story {name} ... {verdict} ({:.1} s)", start.elapsed().as_secs_f32());
    told
}
