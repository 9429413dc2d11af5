//! YAML of users: documents, lists, objects of every kind that we read, refused or not.
//!
//! Properties: nothing panics or hangs; what is refused says why and where.

use weft_intent::documents::{Fault, parse};

pub const WORDS: &[&str] = &[
    "---\n",
    "apiVersion: v1\n",
    "kind: ",
    "metadata:\n  name: ",
    "spec:\n",
    "null",
    "{}",
    "[]",
    "- ",
    "&a",
    "*a",
    "!!binary ",
    "0x7fffffffffffffff",
    ".nan",
    "1e999",
    "10.0.0.0/33",
    "::/0",
    "matchExpressions",
    "NotIn",
    "endPort",
    "ipBlock",
    "except",
    "podSelector",
    "namespaceSelector",
    "? ",
    "|\n",
    ">-\n",
    "\t",
    "%YAML 9.9\n",
];

pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    for entry in parse(text) {
        assert!(entry.place.document > 0 && entry.place.line > 0);
        if let Err(Fault::Refused(refusal)) = entry.result {
            assert!(!refusal.reason.is_empty());
        }
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    [
        "apiVersion: v1\nkind: Node\nmetadata: {name: node1, labels: {rack: a}}\n\
         spec: {podCIDRs: [10.244.1.0/24, 'fd00:10:244:1::/64']}\n\
         status: {addresses: [{type: InternalIP, address: 10.1.0.11}]}\n---\n\
         apiVersion: v1\nkind: Namespace\nmetadata: {name: default, labels: {team: x}}\n",
        "apiVersion: v1\nkind: Pod\nmetadata: {name: web-0, namespace: default, uid: 5d7, labels: {app: web}}\n\
         spec: {nodeName: node1, containers: [{name: c, ports: [{name: http, containerPort: 80}]}]}\n\
         status: {phase: Running, podIPs: [{ip: 10.244.1.7}, {ip: 'fd00:10:244:1::7'}]}\n",
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: deny, namespace: default}\n\
         spec:\n  podSelector: {matchExpressions: [{key: app, operator: NotIn, values: [web]}]}\n  policyTypes: [Ingress, Egress]\n\
         \x20 ingress:\n  - from: [{namespaceSelector: {}, podSelector: {matchLabels: {app: db}}}, {ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}}]\n\
         \x20   ports: [{protocol: TCP, port: http}, {protocol: UDP, port: 1000, endPort: 2000}]\n  egress: [{}]\n",
        "apiVersion: weft.dev/v1alpha1\nkind: BGPConfiguration\nmetadata: {name: default}\nspec: {asn: 64512, clusterCidrs: [10.244.0.0/16]}\n---\n\
         apiVersion: weft.dev/v1alpha1\nkind: BGPPeer\nmetadata: {name: tor-a}\n\
         spec: {address: 10.1.0.1, asn: external, nodeSelector: {matchLabels: {rack: a}}, passwordSecret: {namespace: s, name: p, key: k}}\n---\n\
         apiVersion: v1\nkind: Secret\nmetadata: {name: p, namespace: s}\ndata: {k: c2VjcmV0}\n",
        "{\"apiVersion\":\"v1\",\"kind\":\"List\",\"items\":[{\"apiVersion\":\"v1\",\"kind\":\"Namespace\",\"metadata\":{\"name\":\"a\"}}]}",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}
