//! NetworkPolicy, as traffic sees it: in both directions, both families, both protocols, across nodes; from the moment
//! that the object is written to the moment that it is deleted.

use weft_e2e::lab::{Lab, LabSpec};
use weft_e2e::net::{EchoServer, Namespace, Proto, until_verdict};

use crate::story::{PORT, SOON, Server, at, cluster, cut_off, reaches, server};

const DENY_INGRESS: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { namespace: shop, name: deny-ingress }
spec:
  podSelector: { matchLabels: { app: db } }
  policyTypes: [Ingress]
";

const ALLOW_WEB_TO_DB: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { namespace: shop, name: web-to-db }
spec:
  podSelector: { matchLabels: { app: db } }
  policyTypes: [Ingress]
  ingress:
  - from:
    - podSelector: { matchLabels: { app: web } }
    ports:
    - { protocol: TCP, port: 8080 }
";

const DENY_EGRESS: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { namespace: shop, name: deny-egress }
spec:
  podSelector: { matchLabels: { app: web } }
  policyTypes: [Egress]
";

const ALLOW_EGRESS_TO_DB: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { namespace: shop, name: web-may-ask-db }
spec:
  podSelector: { matchLabels: { app: web } }
  policyTypes: [Egress]
  egress:
  - to:
    - podSelector: { matchLabels: { app: db } }
    ports:
    - { protocol: UDP, port: 8080 }
";

struct Shop {
    lab: Lab,
    db: Server,
    web: Server,
    guest: Server,
}

/// A database on node1; on node2, in another rack, what asks it.
fn shop(story: &str) -> Shop {
    let lab = cluster(story, &LabSpec::racks(["bird:1", "frr:1"]));
    lab.namespace_object("shop").unwrap();
    let db = server(&lab, "shop/db", "node1", &[("app", "db")]);
    let web = server(&lab, "shop/web", "node2", &[("app", "web")]);
    let guest = server(&lab, "shop/guest", "node2", &[("app", "guest")]);
    reaches(web.namespace(), &db);
    reaches(guest.namespace(), &db);
    Shop { lab, db, web, guest }
}

#[track_caller]
fn only(proto: Proto, from: &Namespace, to: &Server) {
    for ip in to.addresses() {
        for each in Proto::ALL {
            until_verdict(from, each, at(*ip), each == proto, SOON).unwrap();
        }
    }
}

#[test]
fn ingress_is_closed_by_one_policy_and_opened_for_one_peer_and_port_by_another() {
    let Shop { lab, db, web, guest } = shop("ingress");

    lab.store().apply(DENY_INGRESS).unwrap();
    cut_off(web.namespace(), &db);
    cut_off(guest.namespace(), &db);
    // Replies to what the database asks are not asked for by others; and a node reaches its own pods (kubelet probes).
    reaches(db.namespace(), &web);
    reaches(&lab.namespace("node1").unwrap(), &db);

    lab.store().apply(ALLOW_WEB_TO_DB).unwrap();
    only(Proto::Tcp, web.namespace(), &db);
    cut_off(guest.namespace(), &db);
    let _other_port = EchoServer::start(db.namespace(), PORT + 1).unwrap();
    for ip in db.addresses() {
        until_verdict(web.namespace(), Proto::Tcp, (*ip, PORT + 1).into(), false, SOON).unwrap();
    }

    // A label decides, and takes effect when it changes.
    lab.label_pod("shop/guest", &[("app", "web")]).unwrap();
    only(Proto::Tcp, guest.namespace(), &db);

    lab.store().delete(ALLOW_WEB_TO_DB).unwrap();
    lab.store().delete(DENY_INGRESS).unwrap();
    reaches(web.namespace(), &db);
}

#[test]
fn egress_is_closed_by_one_policy_and_opened_for_one_peer_and_port_by_another() {
    let Shop { lab, db, web, guest } = shop("egress");

    lab.store().apply(DENY_EGRESS).unwrap();
    cut_off(web.namespace(), &db);
    cut_off(web.namespace(), &guest);
    reaches(guest.namespace(), &db);
    reaches(db.namespace(), &web);

    lab.store().apply(ALLOW_EGRESS_TO_DB).unwrap();
    only(Proto::Udp, web.namespace(), &db);
    cut_off(web.namespace(), &guest);

    lab.store().delete(DENY_EGRESS).unwrap();
    lab.store().delete(ALLOW_EGRESS_TO_DB).unwrap();
    reaches(web.namespace(), &db);
}

#[test]
fn both_halves_of_a_flow_must_allow_it() {
    let Shop { lab, db, web, .. } = shop("halves");

    // Egress lets UDP out, ingress lets TCP in: nothing is left.
    lab.store().apply(ALLOW_EGRESS_TO_DB).unwrap();
    only(Proto::Udp, web.namespace(), &db);
    lab.store().apply(ALLOW_WEB_TO_DB).unwrap();
    cut_off(web.namespace(), &db);

    lab.store().delete(ALLOW_EGRESS_TO_DB).unwrap();
    only(Proto::Tcp, web.namespace(), &db);
}

#[test]
fn pods_on_one_node_are_no_exception() {
    let lab = cluster("one-node", &LabSpec::racks(["bird:1"]));
    lab.namespace_object("shop").unwrap();
    let db = server(&lab, "shop/db", "node1", &[("app", "db")]);
    let web = server(&lab, "shop/web", "node1", &[("app", "web")]);
    reaches(web.namespace(), &db);

    lab.store().apply(DENY_INGRESS).unwrap();
    cut_off(web.namespace(), &db);
    lab.store().apply(ALLOW_WEB_TO_DB).unwrap();
    only(Proto::Tcp, web.namespace(), &db);
}
