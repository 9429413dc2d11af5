//! The CNI server against the real kernel: an agent with two capabilities in a namespace that plays the node, and the
//! built `weft-cni`, executed as a runtime does. Needs root.

#[expect(clippy::unwrap_used, reason = "a lab that cannot be set up has failed its test")]
mod lab;
mod recovery;
mod verbs;
mod wiring;

/// Not a test: the agent's process. [`lab::Node`] executes this binary again to get one that it can kill.
#[test]
#[ignore = "the process that other tests start"]
fn agent_process() {
    lab::serve();
}
