"""Files in stores: s3, mounted claims and, in local mode, this machine.

- `uris`: which URIs are allowed and what they mean
- `store`: reading and writing through fsspec, with errors that the user can act on
"""

from eagleray_runtime.storage.store import Store

__all__ = ["Store"]
