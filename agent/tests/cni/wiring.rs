//! What a wired pod can do, and what its link looks like.

use serde_json::Value;

use crate::lab::{Node, Pod, addresses, eventually, link};

#[test]
fn pods_reach_each_other_and_the_node_in_both_families_and_leave_nothing() {
    let node = Node::dual_stack();
    node.ip("addr add 192.0.2.1/32 dev lo");
    node.ip("addr add 2001:db8::1/128 dev lo");
    let (a, b) = (Pod::new(), Pod::new());
    let (of_a, of_b) = (node.add(&a).result(), node.add(&b).result());

    for address in addresses(&of_b).iter().map(String::as_str).chain(["192.0.2.1", "2001:db8::1"]) {
        assert!(a.can_ping(address), "{address}");
    }
    for address in addresses(&of_a) {
        assert!(b.can_ping(&address), "{address}");
        node.exec(&format!("ping -n -c 1 -W 2 {address}"));
    }
    node.check(&a, &of_a).assert_ok();

    node.del(&a).assert_ok();
    assert!(!b.can_ping(&addresses(&of_a)[0]));
    node.del(&b).assert_ok();
    node.assert_clean();
    assert_eq!(node.ipam().pools[0].cooling, 2);
}
