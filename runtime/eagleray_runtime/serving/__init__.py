"""Serving: a bundle behind the Open Inference Protocol v2 on Ray Serve.

- `app`: the Serve application
- `protocol`: HTTP requests to answers, as an ASGI application
- `tensors`: the protocol's tensors, in JSON or binary
- `model`: one loaded bundle: tensors in, tensors out; `predicting`: numbers or classes, `continuing`: how texts go on
- `inputs`: from a request's tensors to what the model computes with
- `metering`: requests, errors and latency; `middleware`: what the HTTP path of Serve leaves out for us
"""
