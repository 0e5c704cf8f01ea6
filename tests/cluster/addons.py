"""What runs on the node as pods: KubeRay, an S3 server, a volume provisioner. As objects to apply, nothing else."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .archives import StaticImage
from .components import PAUSE_IMAGE
from .layout import NodeLayout
from .machine import BUSYBOX
from .modules import KUBERAY, PAUSE, PROVISIONER, VERSITYGW, Builder

Manifest = dict[str, Any]

KUBERAY_NAMESPACE = "kuberay-system"
KUBERAY_IMAGE = "localhost/eagleray-kuberay:dev"
PROVISIONER_NAMESPACE = "local-path-storage"
PROVISIONER_IMAGE = "localhost/eagleray-local-path-provisioner:dev"
BUSYBOX_IMAGE = "localhost/eagleray-busybox:dev"
STORE_NAMESPACE = "eagleray-store"
STORE_IMAGE = "localhost/eagleray-versitygw:dev"
STORAGE_CLASS = "local-path"


@dataclass(frozen=True)
class ObjectStore:
    """How to reach the S3 server from a pod. The keys guard nothing: they are fixed so that tests can name them."""

    endpoint: str = f"http://s3.{STORE_NAMESPACE}.svc:9000"
    access_key: str = "eagleray"
    secret_key: str = "eagleray-test"
    bucket: str = "models"
    region: str = "us-east-1"


OBJECT_STORE = ObjectStore()

#: Deployments that must be available before a node counts as up.
DEPLOYMENTS = (
    (KUBERAY_NAMESPACE, "kuberay-operator"),
    (STORE_NAMESPACE, "s3"),
    (PROVISIONER_NAMESPACE, "local-path-provisioner"),
)


def images(builder: Builder) -> list[StaticImage]:
    """Return the images of these pods; each holds one static program."""
    shell = {f"/bin/{name}": "busybox" for name in ("sh", "mkdir", "rm", "cat", "ls", "sleep", "chmod", "wget")}
    return [
        StaticImage(PAUSE_IMAGE, {"/pause": builder.location(PAUSE).program("pause")}, entrypoint=["/pause"]),
        StaticImage(BUSYBOX_IMAGE, {"/bin/busybox": BUSYBOX}, links=shell, entrypoint=[]),
        StaticImage(KUBERAY_IMAGE, {"/manager": builder.location(KUBERAY).program("ray-operator")}),
        StaticImage(
            PROVISIONER_IMAGE,
            {"/bin/local-path-provisioner": builder.location(PROVISIONER).program("local-path-provisioner")},
        ),
        StaticImage(STORE_IMAGE, {"/bin/versitygw": builder.location(VERSITYGW).program("versitygw")}),
    ]


def prepare_folders(layout: NodeLayout) -> None:
    """Make the folders that pods find on the host; a bucket is a folder to this S3 server."""
    bucket = layout.run / "s3" / OBJECT_STORE.bucket
    bucket.mkdir(parents=True, exist_ok=True)
    for path in (bucket.parent, bucket):
        os.chown(path, 1000, 1000)
    (layout.run / "volumes").mkdir(exist_ok=True)


def kuberay_overlay(config: Path, folder: Path) -> Path:
    """Write a kustomization over KubeRay's own installation files, so that it runs with exactly its own rights."""
    folder.mkdir(parents=True, exist_ok=True)
    name, tag = KUBERAY_IMAGE.rsplit(":", 1)
    container = "/spec/template/spec/containers/0"
    patch = [
        # Its stock limit of a tenth of a core makes every reconcile of a test wait.
        {"op": "replace", "path": f"{container}/resources", "value": {"requests": {"cpu": "50m", "memory": "128Mi"}}},
        {"op": "replace", "path": f"{container}/readinessProbe/initialDelaySeconds", "value": 1},
        {"op": "replace", "path": f"{container}/readinessProbe/periodSeconds", "value": 1},
        # The image has no user of its own, and the pod may not run as root.
        {"op": "add", "path": f"{container}/securityContext/runAsUser", "value": 65532},
    ]
    content = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": KUBERAY_NAMESPACE,
        # Kustomize takes folders by relative path only.
        "resources": [os.path.relpath(config / part, folder) for part in ("rbac", "manager")],
        "images": [{"name": "kuberay/operator", "newName": name, "newTag": tag}],
        "patches": [{"target": {"kind": "Deployment", "name": "kuberay-operator"}, "patch": json.dumps(patch)}],
    }
    (folder / "kustomization.yaml").write_text(json.dumps(content, indent=2), encoding="utf-8")
    return folder


def manifests(layout: NodeLayout) -> list[Manifest]:
    """Return everything but KubeRay, in an order that can be applied."""
    namespaces = [_object("v1", "Namespace", name) for name in (KUBERAY_NAMESPACE, STORE_NAMESPACE, PROVISIONER_NAMESPACE)]
    return [*namespaces, *_object_store(layout.run / "s3"), *_provisioner(layout.run / "volumes")]


def _object(version: str, kind: str, name: str, namespace: str | None = None, **rest: Any) -> Manifest:
    metadata = {"name": name} | ({"namespace": namespace} if namespace else {})
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **rest}


def _deployment(name: str, namespace: str, pod: Mapping[str, Any]) -> Manifest:
    labels = {"app.kubernetes.io/name": name}
    spec = {
        "replicas": 1,
        "strategy": {"type": "Recreate"},
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": pod},
    }
    return _object("apps/v1", "Deployment", name, namespace, spec=spec)


def _object_store(folder: Path) -> list[Manifest]:
    store = OBJECT_STORE
    container = {
        "name": "s3",
        "image": STORE_IMAGE,
        "command": ["/bin/versitygw", "--port", ":9000", "--region", store.region, "--health", "/healthz"],
        "args": ["posix", "/data"],
        "env": [
            {"name": "ROOT_ACCESS_KEY", "value": store.access_key},
            {"name": "ROOT_SECRET_KEY", "value": store.secret_key},
        ],
        "ports": [{"name": "s3", "containerPort": 9000}],
        "readinessProbe": {"httpGet": {"path": "/healthz", "port": "s3"}, "periodSeconds": 1},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }
    pod = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {"runAsNonRoot": True, "runAsUser": 1000, "runAsGroup": 1000},
        "containers": [container],
        "volumes": [{"name": "data", "hostPath": {"path": str(folder), "type": "Directory"}}],
    }
    service = {"selector": {"app.kubernetes.io/name": "s3"}, "ports": [{"name": "s3", "port": 9000}]}
    return [
        _deployment("s3", STORE_NAMESPACE, pod),
        _object("v1", "Service", "s3", STORE_NAMESPACE, spec=service),
    ]


def _provisioner(folder: Path) -> list[Manifest]:
    name, namespace = "local-path-provisioner", PROVISIONER_NAMESPACE
    read = ["get", "list", "watch"]
    write = [*read, "create", "patch", "update", "delete"]
    rules = [
        {"apiGroups": [""], "resources": ["nodes", "persistentvolumeclaims", "configmaps", "pods/log"], "verbs": read},
        {"apiGroups": [""], "resources": ["persistentvolumes", "pods"], "verbs": write},
        {"apiGroups": [""], "resources": ["events"], "verbs": ["create", "patch"]},
        {"apiGroups": ["storage.k8s.io"], "resources": ["storageclasses"], "verbs": read},
    ]
    subject = {"kind": "ServiceAccount", "name": name, "namespace": namespace}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name}
    helper = _object("v1", "Pod", "helper-pod")
    helper["spec"] = {"containers": [{"name": "helper-pod", "image": BUSYBOX_IMAGE}]}
    settings = {
        "config.json": json.dumps({"nodePathMap": [{"node": "DEFAULT_PATH_FOR_NON_LISTED_NODES", "paths": [str(folder)]}]}),
        "setup": '#!/bin/sh\nset -eu\nmkdir -m 0777 -p "$VOL_DIR"\n',
        "teardown": '#!/bin/sh\nset -eu\nrm -rf "$VOL_DIR"\n',
        "helperPod.yaml": json.dumps(helper),
    }
    container = {
        "name": name,
        "image": PROVISIONER_IMAGE,
        "command": ["/bin/local-path-provisioner", "start", "--config", "/etc/config/config.json"],
        "args": ["--service-account-name", name],
        "env": [
            {"name": "POD_NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
            {"name": "CONFIG_MOUNT_PATH", "value": "/etc/config/"},
        ],
        "securityContext": {"runAsNonRoot": True, "runAsUser": 65532},
        "volumeMounts": [{"name": "config", "mountPath": "/etc/config/"}],
    }
    pod = {
        "serviceAccountName": name,
        "containers": [container],
        "volumes": [{"name": "config", "configMap": {"name": "local-path-config"}}],
    }
    storage_class = _object(
        "storage.k8s.io/v1",
        "StorageClass",
        STORAGE_CLASS,
        provisioner="rancher.io/local-path",
        volumeBindingMode="WaitForFirstConsumer",
        reclaimPolicy="Delete",
    )
    storage_class["metadata"]["annotations"] = {"storageclass.kubernetes.io/is-default-class": "true"}
    rbac = "rbac.authorization.k8s.io/v1"
    return [
        _object("v1", "ServiceAccount", name, namespace),
        _object(rbac, "ClusterRole", name, rules=rules),
        _object(rbac, "ClusterRoleBinding", name, subjects=[subject], roleRef=role),
        _object("v1", "ConfigMap", "local-path-config", namespace, data=settings),
        _deployment(name, namespace, pod),
        storage_class,
    ]
