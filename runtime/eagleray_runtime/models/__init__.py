"""Models as values and the two libraries that compute them.

- `architecture`: layers and head of a model, for each kind of layers
- `heads`: what its outputs mean
- `losses`: what training makes small, and its gradient by the outputs
- `initialization`: seeded first parameters, the same for both engines
- `network`: forward pass and gradients of dense layers by hand, in NumPy
- `torch_network`: any architecture in torch, by `torch_dense`, `torch_convolutional` (with `torch_batch`, its normalisation
  over workers), `torch_recurrent` and `torch_transformer` on what they share (`torch_module`); `torch_losses`: the losses there
- `predictor`: what computes a finished model, with `numpy_predictor` and `torch_predictor`; `torch_writer`: what goes on with a
  text
- `torch_custom`: networks of the user's own, of `code`
- `torch_pretrained`: models of the library Transformers; `torch_tuning`: how they are learned further

Only the modules that torch is in the name of import it.
"""
