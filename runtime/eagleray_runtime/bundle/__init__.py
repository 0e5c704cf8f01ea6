"""Bundles: a trained model as verified files.

- `manifest`: what `bundle.json` holds
- `writing`: every file first, `bundle.json` last, so that a half-written bundle is never seen
- `reading`: every digest checked before anything is parsed
- `card`, `plots`: what a person reads
"""
