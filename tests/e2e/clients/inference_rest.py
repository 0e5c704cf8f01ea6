"""Asks a model by KServe's client: `inference_rest.py ADDRESS MODEL ROWS` prints the labels as JSON."""

import asyncio
import json
import sys

from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig


async def ask(address: str, model: str, rows: list[list[float]]) -> list[str]:
    client = InferenceRESTClient(RESTConfig(protocol="v2"))
    base = f"http://{address}"
    assert await client.is_server_live(base)
    assert await client.is_server_ready(base)
    assert await client.is_model_ready(base, model)
    features = InferInput("features", [len(rows), len(rows[0])], "FP64", rows)
    request = InferRequest(model_name=model, infer_inputs=[features])
    answer = await client.infer(base, request, model_name=model)
    return next(list(output.data) for output in answer.outputs if output.name == "label")


print(json.dumps(asyncio.run(ask(sys.argv[1], sys.argv[2], json.loads(sys.argv[3])))))
