"""Files in stores: those of clouds, mounted claims and, in local mode, this machine.

- `uris`: which URIs are allowed and what they mean
- `store`: reading and writing through fsspec, with errors that the user can act on
- `connection`: what a store is reached by; `s3`, `gs`, `abfs` and `hf` reach theirs
"""

from eagleray_runtime.storage.store import Store

__all__ = ["Store"]
