"""The API of the two resources: the source that the custom resource definitions are generated from."""
