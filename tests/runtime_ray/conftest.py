"""One Ray for all the tests of a run, as the pods of a job have one that runs already."""

from collections.abc import Iterator

import pytest

from eagleray_runtime.contract.names import SERVE_MIDDLEWARE
from tests.runtime_ray.private_ray import FAST_PATH, PrivateRay, private_ray


@pytest.fixture(scope="session")
def ray() -> Iterator[PrivateRay]:
    environment = {
        **FAST_PATH,
        "EAGLERAY_ALLOW_FILE_URIS": "1",
        "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": SERVE_MIDDLEWARE,
    }
    with private_ray(2, environment) as started:
        yield started
