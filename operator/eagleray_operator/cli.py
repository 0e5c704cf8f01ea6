"""The command `eagleray`."""

import argparse
import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml
from pydantic import ValidationError

from eagleray_operator.api import crd
from eagleray_operator.settings import Settings

CRD_WIDTH = 120


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parsed = _parser().parse_args(arguments)
    code: int = parsed.work(parsed)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="eagleray", description="Models as a service: train and serve through two resources.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="train and serve what the files say on this machine, without a cluster")
    _add_files(run)
    run.add_argument(
        "--exit", action="store_true", help="end when every job has ended and every deployment is ready or has failed"
    )
    run.add_argument("--volumes", type=Path, metavar="DIR", help="folder for what pvc:// names (default: gone with the run)")
    run.set_defaults(work=_run)

    render = commands.add_parser("render", help="print the objects that the operator would make in a cluster")
    _add_files(render)
    render.add_argument(
        "--settings", type=Path, metavar="FILE", help="the operator's settings (default: those of a fresh install)"
    )
    render.set_defaults(work=_render)

    operator = commands.add_parser("operator", help="run the operator in a cluster")
    operator.add_argument("--settings", type=Path, metavar="FILE", required=True, help="the operator's settings")
    operator.set_defaults(work=_operator)

    generate = commands.add_parser("generate", help="write files that are made from the API")
    kinds = generate.add_subparsers(required=True, metavar="WHAT")
    crds = kinds.add_parser("crds", help="the custom resource definitions")
    crds.add_argument("directory", type=Path, metavar="DIR")
    crds.add_argument("--check", action="store_true", help="write nothing; fail if the files are not what would be written")
    crds.set_defaults(work=_generate_crds)
    return parser


def _add_files(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "files", nargs="+", metavar="FILE", help="manifests as kubectl takes them: files, folders or - for standard input"
    )
    parser.add_argument("-n", "--namespace", default="default", help="namespace of objects that name none (default: default)")


def _run(arguments: argparse.Namespace) -> int:
    try:
        from eagleray_operator.local.run import run
    except ModuleNotFoundError as error:
        return _lacks(error, "local,operator,runtime")
    if importlib.util.find_spec("ray") is None:
        return _refused("ray is not installed: pip install 'eagleray[local,operator,runtime]'")
    return run(arguments.files, namespace=arguments.namespace, end_when_settled=arguments.exit, volumes=arguments.volumes)


def _render(arguments: argparse.Namespace) -> int:
    try:
        from eagleray_operator.local.manifests import ManifestError
        from eagleray_operator.local.render import render
    except ModuleNotFoundError as error:
        return _lacks(error, "local,operator")
    try:
        settings = Settings.load(arguments.settings) if arguments.settings else Settings()
        for document in render(arguments.files, settings, arguments.namespace):
            sys.stdout.write(document)
    except BrokenPipeError:
        # Whoever reads has seen enough; nothing more may be written at the end either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (ManifestError, ValidationError, OSError) as error:
        return _refused(error)
    return 0


def _operator(arguments: argparse.Namespace) -> int:
    try:
        from eagleray_operator import process
    except ModuleNotFoundError as error:
        return _lacks(error, "operator")
    try:
        return process.main(arguments.settings)
    except (ValidationError, OSError) as error:
        return _refused(error)


def _generate_crds(arguments: argparse.Namespace) -> int:
    files = {
        arguments.directory / f"{definition['spec']['names']['plural']}.yaml": yaml.safe_dump(
            definition, sort_keys=False, width=CRD_WIDTH
        )
        for definition in crd.definitions().values()
    }
    if not arguments.check:
        arguments.directory.mkdir(parents=True, exist_ok=True)
        for path, content in files.items():
            path.write_text(content, encoding="utf-8")
        return 0
    stale = [path for path, content in files.items() if not path.exists() or path.read_text(encoding="utf-8") != content]
    for path in stale:
        sys.stderr.write(f"{path} is not what the API says: run eagleray generate crds {arguments.directory}\n")
    return 1 if stale else 0


def _lacks(error: ModuleNotFoundError, extras: str) -> int:
    if error.name is None or error.name.startswith("eagleray"):
        raise error
    return _refused(f"{error.name} is not installed: pip install 'eagleray[{extras}]'")


def _refused(error: object) -> int:
    sys.stderr.write(f"{error}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
