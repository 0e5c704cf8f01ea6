"""The child process that holds a private Ray: `python -m eagleray_operator.local.head '<options as JSON>'`.

It prints its addresses as one line of JSON and ends, with all of Ray and with the directory of the run, when its standard
input does: that is when the process that started it ends, however that comes about. It must lead a session of its own, since
Ray's reaper kills its process group.
"""

import functools
import json
import os
import shutil
import signal
import sys
import threading
from types import FrameType
from typing import Any


def main() -> None:
    """Start Ray, say where it is, wait for the end."""
    options: dict[str, Any] = json.loads(sys.argv[1])
    ended = threading.Event()

    def end(_signal: int, _frame: FrameType | None) -> None:
        ended.set()

    def watch_starter() -> None:
        while os.read(0, 4096):
            pass
        ended.set()

    threading.Thread(target=watch_starter, daemon=True).start()
    import ray
    from ray._private import parameter

    # ray.init cannot be told the port of its agent, a fixed one: beside another Ray of this machine no job would start.
    parameter.RayParams = functools.partial(parameter.RayParams, dashboard_agent_listen_port=0)
    try:
        context = ray.init(
            address="local",
            include_dashboard=True,
            dashboard_host="127.0.0.1",
            dashboard_port=options["dashboard_port"],
            num_cpus=options["cpus"],
            object_store_memory=options["object_store_bytes"],
            log_to_driver=False,
            configure_logging=False,
            _temp_dir=f"{options['directory']}/ray",
        )
        signal.signal(signal.SIGINT, end)
        signal.signal(signal.SIGTERM, end)
        resources = ray.cluster_resources()
        addresses = {
            "dashboard": f"http://{context.dashboard_url}",
            "gcs": context.address_info["gcs_address"],
            "cpus": resources.get("CPU", 0),
            "gpus": resources.get("GPU", 0),
        }
        sys.stdout.write(json.dumps(addresses) + "\n")
        sys.stdout.flush()
        ended.wait()
    finally:
        ray.shutdown()
        shutil.rmtree(options["directory"], ignore_errors=True)


if __name__ == "__main__":
    main()
