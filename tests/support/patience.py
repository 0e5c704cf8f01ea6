"""How long tests wait."""

PATIENCE_SECONDS = 300.0
"""How long what must come may take; what takes long on a slow and busy machine is not wrong."""
