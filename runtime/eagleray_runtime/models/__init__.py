"""Models as values and the two libraries that compute them.

- `architecture`: layer widths, activation and head of a model
- `initialization`: seeded first parameters, the same for both engines
- `network`: forward pass, losses and gradients by hand, in NumPy
- `torch_network`: the same forward pass in torch (the only module here that imports it)
"""
