"""What tests of training share."""

import pytest


@pytest.fixture(scope="session", autouse=True)
def own_caches(tmp_path_factory):
    """Features that a test computes are kept in no user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCH_HOME", str(tmp_path_factory.mktemp("torch")))
        yield
