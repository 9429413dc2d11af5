//! The lab: clusters out of network namespaces, with real routers; scenarios and benches.
