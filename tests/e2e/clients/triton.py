"""Asks a model by NVIDIA's client: `triton.py ADDRESS MODEL ROWS` prints the labels as JSON."""

import json
import sys

import numpy as np
from tritonclient.http import InferenceServerClient, InferInput

address, model, rows = sys.argv[1], sys.argv[2], np.array(json.loads(sys.argv[3]))
with InferenceServerClient(address) as client:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(model)
    features = InferInput("features", list(rows.shape), "FP64")
    features.set_data_from_numpy(rows)
    labels = client.infer(model, [features]).as_numpy("label")
print(json.dumps([label.decode() for label in labels]))
