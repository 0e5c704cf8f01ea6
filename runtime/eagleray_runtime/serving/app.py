"""The Serve application: `eagleray_runtime.serving.app:build`."""

import contextlib
import gc
import os
from pathlib import Path
from typing import Any

import orjson
from ray import serve
from ray.serve.schema import LoggingConfig

from eagleray_runtime.contract.config import ServingConfig
from eagleray_runtime.contract.names import CONFIG_DIRECTORY, CONFIG_FILE, CONFIG_PATH_ENV, SERVE_DEPLOYMENT
from eagleray_runtime.serving.metering import RayMeter
from eagleray_runtime.serving.model import load_model
from eagleray_runtime.serving.protocol import OpenInference
from eagleray_runtime.serving.tensors import BadTensorError, decode

ONGOING_REQUESTS = 1000
QUEUED_REQUESTS = 2000
"""Requests that may wait in a replica beside those under way; more are answered 503, so that a replica cannot drown."""


def build(args: dict[str, Any]) -> serve.Application:
    """Make the application from `{"config": <path>}`, from a ServingConfig as a dict, or from `EAGLERAY_CONFIG`.

    Runs in the Serve controller's build task: the model itself is loaded in each replica.

    Raises:
        OSError, pydantic.ValidationError: the configuration cannot be read.
    """
    config = _configuration(args)

    def open_inference() -> OpenInference:
        # Serve pickles an application object that is given to it, module state and all: only one made here is the replica's own.
        model = load_model(config)
        # To be warm. The example is a row of training, of which some hold numbers that the model gives no answer to.
        with contextlib.suppress(BadTensorError):
            model.infer([decode(tensor, None, model.files)[0] for tensor in model.example["inputs"]])
        # What is loaded stays: collecting it again and again costs several percent of the requests.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 50, 100)
        return OpenInference(model, RayMeter(config.resource.name, config.resource.namespace))

    deployment = serve.deployment(
        serve.ingress(open_inference)(),
        name=SERVE_DEPLOYMENT,
        max_ongoing_requests=ONGOING_REQUESTS,
        max_queued_requests=QUEUED_REQUESTS,
        # A record for each request costs 35 us, a fifth of the whole; WARNING skips building it.
        logging_config=LoggingConfig(enable_access_log=False, log_level="WARNING"),
    )
    return deployment.bind()


def _configuration(args: dict[str, Any]) -> ServingConfig:
    if args and "config" not in args:
        return ServingConfig.model_validate_json(orjson.dumps(args))
    path = args.get("config") or os.environ.get(CONFIG_PATH_ENV, f"{CONFIG_DIRECTORY}/{CONFIG_FILE}")
    return ServingConfig.model_validate_json(Path(path).read_bytes())
