"""The edge to the cluster: one port, and its adapters `kube` (a real apiserver) and `memory` (local mode and tests)."""
