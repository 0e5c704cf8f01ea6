"""The API of the two resources: spec, status, conditions, reasons, names. The custom resource definitions are generated from it."""
