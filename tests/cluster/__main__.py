"""The command line: `python3 -m tests.cluster COMMAND`, run from the root of the checkout."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from .addons import OBJECT_STORE
from .controlplane import ControlPlane
from .errors import ClusterError, UnavailableError
from .node import Node
from .project_images import IMAGES, USUAL

FAILED, UNAVAILABLE = 1, 3


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python3 -m tests.cluster", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    ahead = commands.add_parser("build", help="compile programs and build images ahead of `up` (root)")
    up = commands.add_parser("up", help="bring the node up; quick when it is up already (root)")
    for command in (ahead, up):
        command.add_argument("--images", nargs="*", choices=sorted(IMAGES), default=list(USUAL), help="images of ours")
    commands.add_parser("down", help="stop the node; builds and imported images stay")
    commands.add_parser("status", help="say what runs; exit code 1 when the node is not up")

    inside = commands.add_parser("exec", help="run a command inside the node's network: exec -- kubectl get pods")
    inside.add_argument("words", nargs=argparse.REMAINDER, metavar="-- CMD")

    load = commands.add_parser("load-image", help="build images of ours that changed and import them")
    load.add_argument("images", nargs="+", choices=sorted(IMAGES))

    gpus = commands.add_parser("gpus", help="make the node report this many GPUs")
    gpus.add_argument("count", type=int)

    logs = commands.add_parser("logs", help="print the logs of the node's daemons")
    logs.add_argument("names", nargs="*", help="daemons; all when none is named")
    logs.add_argument("--lines", type=int, default=40)

    for name, text in (
        ("control-plane", "etcd and kube-apiserver with KubeRay's resources, on loopback, without root"),
        ("control-plane-down", "stop a control plane and delete its state"),
    ):
        plane = commands.add_parser(name, help=text)
        plane.add_argument("--state", type=Path, help="its folder; several may run side by side")
    return parser


def _say_with_time() -> Callable[[str], None]:
    start = time.monotonic()
    return lambda line: print(f"[{time.monotonic() - start:6.1f} s] {line}", file=sys.stderr, flush=True)


def _status(node: Node) -> int:
    status = node.status()
    for group in (status.processes, status.deployments):
        for name, good in group.items():
            print(f"{name:28} {'runs' if good else 'DOWN'}")
    print(f"{'apiserver':28} {'ready' if status.apiserver_ready else 'DOWN'}")
    print(f"{'node':28} {'ready' if status.node_ready else 'DOWN'}")
    if not status.up:
        return FAILED
    print(f"kubeconfig (inside only): {node.kubeconfig}")
    print(f"S3 from a pod: {OBJECT_STORE.endpoint} bucket {OBJECT_STORE.bucket}")
    return 0


def _logs(node: Node, names: Sequence[str], lines: int) -> int:
    files = [node.log_of(name) for name in names] if names else sorted(node.layout.logs.glob("*.log"))
    for file in files:
        print(f"==> {file.stem} <==")
        if file.exists():
            print("\n".join(file.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:]))
    return 0


def _exec(node: Node, words: Sequence[str]) -> int:
    command = list(words[1:] if words[:1] == ["--"] else words)
    if not command:
        raise ClusterError("exec: no command given")
    inside = node.inside(command)
    # This process becomes the command, so signals and the exit code are the command's own.
    os.execvpe(inside[0], inside, node.environment())  # noqa: S606 - the caller's own words, not a shell's


def _run(arguments: argparse.Namespace, say: Callable[[str], None]) -> int:
    if arguments.command in ("control-plane", "control-plane-down"):
        plane = ControlPlane(arguments.state, say=say)
        if arguments.command == "control-plane-down":
            plane.down()
            return 0
        plane.up()
        print(plane.kubeconfig)
        return 0
    node = Node(say=say)
    match arguments.command:
        case "build":
            node.build(arguments.images)
        case "up":
            node.up(arguments.images)
            say("the node is up")
        case "down":
            node.down()
        case "status":
            return _status(node)
        case "exec":
            return _exec(node, arguments.words)
        case "load-image":
            for name in arguments.images:
                say(f"{name}: {'imported' if node.load_image(name) else 'unchanged'}")
        case "gpus":
            node.advertise_gpus(arguments.count)
        case "logs":
            return _logs(node, arguments.names, arguments.lines)
    return 0


def main(words: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 1 when it failed, 3 when this machine cannot run it."""
    try:
        return _run(_parser().parse_args(words), _say_with_time())
    except UnavailableError as error:
        print(error, file=sys.stderr)
        return UNAVAILABLE
    except ClusterError as error:
        print(error, file=sys.stderr)
        return FAILED


if __name__ == "__main__":
    sys.exit(main())
