//! What the model says, told step by step.

use super::*;
use crate::lab::LabSpec;
use crate::net::Proto;

const TCP: Traffic = Traffic { proto: Proto::Tcp, port: 8080, v6: false };
const DENY: &str =
    r#"{"apply-policy":{"policy":"red/deny","spec":{"podSelector":{},"policyTypes":["Ingress"]}}}"#;

/// `red/a` on node1, `red/b` on node2 beside it, `red/c` on node3 in another rack.
fn model() -> Model {
    let mut model = Model::new(Topology::of(&LabSpec::racks(["bird+frr:2", "bird:1"])), &["red"]);
    for (pod, node) in [("a", "node1"), ("b", "node2"), ("c", "node3")] {
        tell(
            &mut model,
            &[&format!(r#"{{"start-pod":{{"pod":"red/{pod}","node":"{node}","labels":{{}}}}}}"#)],
        );
    }
    tell(&mut model, &[r#""quiet""#]);
    model
}

fn tell(model: &mut Model, lines: &[&str]) {
    for line in lines {
        let step: Step = line.parse().unwrap();
        assert!(model.is_possible(&step), "{line}");
        model.apply(&step);
    }
}

fn told(lines: &[&str]) -> Model {
    let mut model = model();
    tell(&mut model, lines);
    model
}

fn pod(name: &str) -> End {
    End::Pod(format!("red/{name}"))
}

fn verdict(model: &Model, from: &str, to: &str) -> Verdict {
    model.verdict(&pod(from), &pod(to), TCP)
}

#[test]
fn an_agent_that_is_dead_enforces_what_it_knew() {
    let mut model = told(&[r#"{"kill-agent":{"node":"node1"}}"#, DENY, r#""quiet""#]);
    assert_eq!(verdict(&model, "b", "a"), Verdict::Open);
    assert_eq!(verdict(&model, "a", "b"), Verdict::Closed);

    tell(&mut model, &[r#"{"start-agent":{"node":"node1"}}"#]);
    assert_eq!(verdict(&model, "b", "a"), Verdict::Closed);
}

#[test]
fn an_agent_killed_in_haste_may_have_known_or_not() {
    let model = told(&[DENY, r#"{"kill-agent":{"node":"node1"}}"#]);
    assert_eq!(verdict(&model, "b", "a"), Verdict::Unknown);
    assert_eq!(verdict(&model, "a", "b"), Verdict::Closed);
}

#[test]
fn where_the_ways_of_a_dead_agent_change_the_model_does_not_guess() {
    let mut model = told(&[r#"{"kill-agent":{"node":"node1"}}"#, r#"{"cut":{"cable":"tor1b-spine"}}"#]);
    assert_eq!(verdict(&model, "a", "c"), Verdict::Unknown);
    assert_eq!(verdict(&model, "b", "c"), Verdict::Open);
    assert_eq!(model.learned("node2", false), None);

    tell(&mut model, &[r#"{"start-agent":{"node":"node1"}}"#]);
    assert_eq!(verdict(&model, "a", "c"), Verdict::Open);
}

#[test]
fn an_agent_that_left_takes_its_routes_along_and_keeps_its_own_pods_together() {
    let mut model = told(&[
        r#"{"start-pod":{"pod":"red/a2","node":"node1","labels":{}}}"#,
        r#""quiet""#,
        r#"{"stop-agent":{"node":"node1"}}"#,
        r#""quiet""#,
    ]);
    assert_eq!(verdict(&model, "a", "a2"), Verdict::Open);
    assert_eq!(verdict(&model, "c", "a"), Verdict::Closed);
    assert_eq!(verdict(&model, "b", "c"), Verdict::Open);
    tell(&mut model, &[r#"{"start-agent":{"node":"node1"}}"#]);
    assert_eq!(verdict(&model, "c", "a"), Verdict::Open);
}

#[test]
fn who_died_before_a_neighbour_left_keeps_the_way_to_it() {
    let model =
        told(&[r#"{"kill-agent":{"node":"node2"}}"#, r#"{"stop-agent":{"node":"node1"}}"#, r#""quiet""#]);
    assert_eq!([verdict(&model, "a", "b"), verdict(&model, "b", "a")], [Verdict::Unknown; 2]);
    assert_eq!(verdict(&model, "c", "a"), Verdict::Closed, "node3 has heard it");
}

#[test]
fn rules_flushed_without_an_agent_are_nobody_knows_what() {
    let model = told(&[
        DENY,
        r#""quiet""#,
        r#"{"kill-agent":{"node":"node1"}}"#,
        r#"{"flush-rules":{"node":"node1"}}"#,
    ]);
    assert_eq!(verdict(&model, "b", "a"), Verdict::Unknown);
    assert_eq!(verdict(&model, "a", "b"), Verdict::Closed, "by the node of b, whose agent runs");
}

#[test]
fn a_conversation_is_disturbed_where_its_own_way_is_touched() {
    let model = model();
    let disturbed = |line: &str| {
        let step: Step = line.parse().unwrap();
        let pairs = [("ab", pod("a"), pod("b")), ("ac", pod("a"), pod("c")), ("oc", End::Outside, pod("c"))];
        let hit = pairs.iter().filter(|(_, from, to)| model.disturbs(&step, from, to, false));
        hit.map(|(name, ..)| *name).collect::<Vec<_>>()
    };
    for (line, hit) in [
        (r#"{"kill-agent":{"node":"node1"}}"#, vec![]),
        (r#"{"start-agent":{"node":"node1"}}"#, vec![]),
        (r#"{"flush-rules":{"node":"node1"}}"#, vec![]),
        (r#"{"flush-routes":{"node":"node1"}}"#, vec!["ab", "ac"]),
        (r#"{"stop-agent":{"node":"node3"}}"#, vec!["ac", "oc"]),
        (r#"{"cut":{"cable":"node1-tor1a"}}"#, vec!["ab", "ac"]),
        (r#"{"cut":{"cable":"node1-tor1b"}}"#, vec!["ac"]),
        (r#"{"cut":{"cable":"node2-tor1b"}}"#, vec![]),
        (r#"{"restart-router":{"tor":"tor1a"}}"#, vec!["ac"]),
        (r#"{"power-off":{"tor":"tor1a"}}"#, vec!["ab", "ac"]),
        (r#"{"cut":{"cable":"tor2-spine"}}"#, vec!["ac", "oc"]),
        (r#"{"delete-peer":{"tor":"tor2","v6":true}}"#, vec![]),
        (r#"{"disable-session":{"node":"node3","tor":"tor2","v6":false}}"#, vec!["ac", "oc"]),
    ] {
        assert_eq!(disturbed(line), hit, "{line}");
    }
}

#[test]
fn what_a_node_learns_is_one_route_for_each_destination_with_all_its_ways() {
    let model = told(&[r#"{"cut":{"cable":"tor1b-spine"}}"#]);
    let learned = model.learned("node1", false).unwrap();
    let tor: BTreeSet<Via> = [Via::Tor("tor1a".to_owned())].into();
    assert_eq!(learned[&Some("node3".to_owned())], tor);
    assert_eq!(learned[&None], tor);
    assert_eq!(learned[&Some("node2".to_owned())], [Via::Neighbour("node2".to_owned())].into());
    assert_eq!(model.sessions("tor1b").unwrap().len(), 4);
}

#[test]
fn repairs_leave_nothing_broken() {
    let mut model = told(&[
        r#"{"fill-disk":{"node":"node1"}}"#,
        r#"{"kill-agent":{"node":"node1"}}"#,
        r#"{"power-off":{"tor":"tor2"}}"#,
        r#"{"delete-peer":{"tor":"tor1a","v6":true}}"#,
        r#"{"cut":{"cable":"node2-tor1a"}}"#,
    ]);
    for step in model.repairs() {
        assert!(model.is_possible(&step), "{step}");
        model.apply(&step);
    }
    assert_eq!(model.repairs(), []);
    assert_eq!(model.damage, Damage::default());
}
