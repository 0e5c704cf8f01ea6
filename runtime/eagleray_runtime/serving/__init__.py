"""Serving: a bundle behind the Open Inference Protocol v2 on Ray Serve.

- `app`: the Serve application
- `protocol`: HTTP requests to answers, as an ASGI application
- `tensors`: the protocol's tensors, in JSON or binary
- `model`: one loaded bundle: tensors in, tensors out
- `predictor` with `numpy_predictor` and `torch_predictor` (the only module here that imports torch)
- `metering`: requests, errors and latency; `middleware`: what the HTTP path of Serve leaves out for us
"""
