"""Models as values and the two libraries that compute them.

- `architecture`: layer widths, activation and head of a model
- `heads`: what its outputs mean
- `losses`: what training makes small, and its gradient by the outputs
- `initialization`: seeded first parameters, the same for both engines
- `network`: forward pass and gradients by hand, in NumPy
- `torch_network`, `torch_losses`: the same in torch (the only modules here that import it)
"""
