"""Environment variables, paths and ports that both sides rely on."""

CONFIG_PATH_ENV = "EAGLERAY_CONFIG"
"""Path of the JSON file with the `TrainingConfig` or `ServingConfig`."""

REPORT_TOKEN_PATH_ENV = "EAGLERAY_REPORT_TOKEN_PATH"  # noqa: S105 - a name, not a secret
"""Path of the bearer token for reports; unset means that reports carry none."""

PVC_ROOT_ENV = "EAGLERAY_PVC_ROOT"
"""Folder under which each claim of a `pvc://claim/path` URI is mounted by its name."""

CONFIG_DIRECTORY = "/etc/eagleray"
CONFIG_FILE = "config.json"
DATA_DIRECTORY = "/etc/eagleray/data"
"""Where the ConfigMap of `data.configMapRef` is mounted."""

CODE_DIRECTORY = "/etc/eagleray/code"
"""Where the ConfigMap of `model.custom.configMapRef` is mounted."""

SECRET_ROOT = "/etc/eagleray/secrets"  # noqa: S105 - a name, not a secret
"""Each Secret that a URI needs is mounted below this folder, one file a key (`AWS_ACCESS_KEY_ID`, ...)."""

PVC_ROOT = "/mnt/eagleray/pvc"
REPORT_TOKEN_PATH = "/var/run/secrets/eagleray.io/token"  # noqa: S105 - a name, not a secret
REPORT_AUDIENCE = "eagleray"
REPORTS_PATH = "/v1/reports"

SERVE_PORT = 8000
DASHBOARD_PORT = 8265
METRICS_PORT = 8080

TRAINING_ENTRYPOINT = "python -m eagleray_runtime.training"
SERVING_IMPORT_PATH = "eagleray_runtime.serving.app:build"
SERVE_APPLICATION = "model"
"""Name of the one Serve application of a ModelDeployment in a cluster of its own."""

SERVE_DEPLOYMENT = "Model"
"""Name of the Serve deployment in that application; the operator sets its replica numbers."""

ALLOW_FILE_URIS_ENV = "EAGLERAY_ALLOW_FILE_URIS"
"""`1` allows file:///path URIs: local mode sets it, pods never do."""

SERVE_MIDDLEWARE = "eagleray_runtime.serving.middleware.lean"
"""Value of `RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH` in serving pods: the lean request path."""
