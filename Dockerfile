# Static binaries and nothing else. `make image` fills the context; no registry is needed.
FROM scratch
COPY weft-agent weftctl /usr/bin/
# The agent copies it to the node's CNI folder.
COPY weft-cni /opt/weft/weft-cni
ENTRYPOINT ["/usr/bin/weft-agent"]
