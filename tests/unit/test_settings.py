"""What an administrator may not set."""

import pytest
from pydantic import ValidationError

from eagleray_operator.settings import Settings


@pytest.mark.parametrize("name", ["RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"])
def test_rays_authentication_cannot_be_switched_off(name: str) -> None:
    with pytest.raises(ValidationError, match="always on"):
        Settings(serving_environment={name: "disabled"})
    assert Settings(serving_environment={"RAY_LOG": "on"}).serving_environment == {"RAY_LOG": "on"}
