"""What operator and runtime agree on.

The operator may import this package and nothing else of the runtime; it needs the standard library and pydantic only.

- `blocks`: the parts of the resources' spec that the runtime executes
- `search`: the part that varies the others; `rules`: judges them without a library for CEL
- `config`: the files that the operator writes and the runtime reads
- `reports`: what the runtime tells the operator while it works
- `stores`: what a URI may name
- `names`: environment variables, paths and ports
"""
