"""Builders of the child objects, one module a kind: typed values in, a manifest out. No client, no clock."""
