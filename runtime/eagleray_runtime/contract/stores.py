"""The stores that a URI may name."""

STORES = {"s3": "bucket", "gs": "bucket", "abfs": "container", "hf": "repository", "pvc": "claim"}
"""By the scheme of the URI, what its first part names."""

EXAMPLES = [f"{scheme}://{'owner/' if scheme == 'hf' else ''}{place}/path" for scheme, place in STORES.items()]
PLACE = f"{', '.join(EXAMPLES[:-1])} or {EXAMPLES[-1]}"
"""How a URI is written, for people."""

KEYS = (
    "Secret with the keys of the store, called as its own tools call them: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, "
    "AWS_ENDPOINT_URL, ... for s3, GOOGLE_APPLICATION_CREDENTIALS for gs, AZURE_STORAGE_ACCOUNT_NAME with "
    "AZURE_STORAGE_ACCOUNT_KEY, or AZURE_STORAGE_CONNECTION_STRING, for abfs, HF_TOKEN for hf. Unset means that of the "
    "platform for what is in the platform's store, and else the pods' own identity."
)
"""Description of each field that names such a Secret."""
