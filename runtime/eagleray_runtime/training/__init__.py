"""Training: `python -m eagleray_runtime.training` is the driver of one attempt.

- `plan`: every value that the engines need, decided
- `numpy_engine` with `optimizers`; `torch_engine` on Ray Train, each of whose workers is a `torch_worker`: it keeps a
  `torch_run`, takes a `torch_step` on `torch_rows`, shares the network by `torch_parallel` and leaves to `devices` what the
  spec leaves open, with `augmentation` of images
- `search` with `space` (which fields vary), `draws` (what is tried), `halving` (which trials end early), `trial`, `trials`
- `history`, `progress`: what is told while it runs; `evaluation`: metrics of the finished model
- `curves`: pictures of what the model says of rows that were held out
- `estimate`: what a training will need
- `driver`: the order of the steps
"""
