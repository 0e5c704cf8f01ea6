"""A real one-node Kubernetes for tests, from published Go modules: `python3 -m tests.cluster --help`.

Only the standard library is used, so that it runs before anything of the project is installed.
"""

from .addons import OBJECT_STORE, ObjectStore
from .controlplane import ControlPlane
from .errors import ClusterError, UnavailableError
from .node import Node, Status

__all__ = ["OBJECT_STORE", "ClusterError", "ControlPlane", "Node", "ObjectStore", "Status", "UnavailableError"]
