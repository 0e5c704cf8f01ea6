"""Runs the whole sweep and prints the table: `python -m tests.faults [--seed N] [--only TEXT] [--sample]`."""

import argparse
import asyncio
import sys
import time

from tests.faults.classes import SAMPLE, WHOLE, Context
from tests.faults.stage import Stage
from tests.faults.sweep import Sweep, table


async def sweep(seed: int, only: str, sample: bool) -> int:
    async with Stage() as stage:
        runs = Sweep(stage)
        await runs.refer()
        for scenario, reference in runs.references.items():
            print(f"{scenario}: {reference.writes} writes, {reference.events} events", flush=True)
        context = Context(stage, runs, seed, sample)
        for name, perform in (SAMPLE if sample else WHOLE).items():
            if only.lower() in name.lower():
                began, before = time.monotonic(), len(runs.runs)
                await perform(name, context)
                wrong = sum(run.problem is not None for run in runs.runs[before:])
                took = time.monotonic() - began
                print(f"{name}: {len(runs.runs) - before} runs, {wrong} wrong, {took:.0f} s", flush=True)
                for run in runs.runs[before:]:
                    if run.problem is not None:
                        print(f"  {run.scenario}: {run.problem}", flush=True)
        print(table(runs.runs, runs.references))
    return int(any(run.problem is not None for run in runs.runs))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="of all chances")
    parser.add_argument("--only", default="", help="only fault classes with this in their name")
    parser.add_argument("--sample", action="store_true", help="a part of the points of each class")
    arguments = parser.parse_args()
    return asyncio.run(sweep(arguments.seed, arguments.only, arguments.sample))


if __name__ == "__main__":
    sys.exit(main())
