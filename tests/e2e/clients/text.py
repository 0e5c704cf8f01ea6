"""Asks a model of texts by NVIDIA's client: `text.py ADDRESS MODEL OUTPUT TEXTS` prints what it answers as JSON."""

import json
import sys

import numpy as np
from tritonclient.http import InferenceServerClient, InferInput

address, model, output, texts = sys.argv[1], sys.argv[2], sys.argv[3], json.loads(sys.argv[4])
with InferenceServerClient(address, network_timeout=100) as client:
    given = InferInput("text", [len(texts)], "BYTES")
    given.set_data_from_numpy(np.array([text.encode() for text in texts], dtype=np.object_), binary_data=False)
    told = client.infer(model, [given]).as_numpy(output)
print(json.dumps([answer.decode() for answer in told]))
