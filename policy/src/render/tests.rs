//! The text of a whole ruleset, and nft's opinion of it.

use std::io::Write;
use std::process::{Command, Stdio};

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;

use crate::properties::random;
use crate::testing::Cluster;

/// x/a admits by selector, block, port and range; x/b is open; x/c may reach only named ports and DNS.
const EXAMPLE: &str = "
{name: web, podSelector: {matchLabels: {pod: a}}, ingress: [
  {from: [{podSelector: {matchLabels: {pod: b}}}, {namespaceSelector: {matchLabels: {ns: z}}, podSelector: {matchLabels: {pod: c}}},
          {ipBlock: {cidr: 10.0.0.0/8, except: [10.96.0.0/12, 10.244.0.0/16]}}],
   ports: [{port: 80}, {port: 8080, endPort: 8089}]},
  {ports: [{port: 53, protocol: UDP}]}]}
---
{name: out, podSelector: {matchLabels: {pod: c}}, policyTypes: [Egress], egress: [
  {to: [{namespaceSelector: {matchLabels: {ns: y}}}], ports: [{port: web}]},
  {ports: [{port: 53, protocol: UDP}, {port: 53}]}]}";

#[test]
fn the_example_reads_as_designed() {
    insta::assert_snapshot!(super::ruleset("weft", &Cluster::with(EXAMPLE).compile()));
}

#[test]
fn nft_accepts_what_is_rendered() {
    nft_accepts(&super::ruleset("weft", &Cluster::new().compile()));
    nft_accepts(&super::ruleset("weft", &Cluster::with(EXAMPLE).compile()));
    let mut runner = TestRunner::deterministic();
    for _ in 0..20 {
        let cluster =
            random::cluster().new_tree(&mut runner).expect("the strategy rejects nothing").current();
        nft_accepts(&super::ruleset("weft", &cluster.compile()));
    }
}

/// In a network namespace of its own. `-c` has the kernel check the transaction and then abort it.
fn nft_accepts(text: &str) {
    let mut nft = Command::new("unshare")
        .args(["--net", "nft", "-c", "-f", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("unshare and nft are installed");
    nft.stdin.take().expect("stdin is piped").write_all(text.as_bytes()).expect("nft reads its input");
    let output = nft.wait_with_output().expect("nft ends");
    assert!(output.status.success(), "{}\n{text}", String::from_utf8_lossy(&output.stderr));
}
