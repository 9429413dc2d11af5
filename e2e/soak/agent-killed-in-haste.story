# An agent is killed at the moment that a policy is written, and its rules and routes are flushed while it is dead; the next
# one closes what is closed, and conversations elsewhere notice nothing.
# racks: bird+frr:2 bird:1
{"start-pod":{"pod":"red/a","node":"node1","labels":{"app":"web"}}}
{"start-pod":{"pod":"red/b","node":"node2","labels":{"app":"db"}}}
{"start-pod":{"pod":"blue/c","node":"node3","labels":{"app":"web"}}}
"quiet"
{"apply-policy":{"policy":"red/deny","spec":{"podSelector":{"matchLabels":{"app":"web"}},"policyTypes":["Ingress"],"ingress":[{"from":[{"podSelector":{}}]}]}}}
{"kill-agent":{"node":"node1"}}
"quiet"
{"flush-rules":{"node":"node1"}}
{"flush-routes":{"node":"node1"}}
"quiet"
{"start-agent":{"node":"node1"}}
"quiet"
{"end-pod":{"pod":"red/b"}}
{"kill-agent":{"node":"node2"}}
{"start-agent":{"node":"node2"}}
"quiet"
