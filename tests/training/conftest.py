"""What tests of training share."""

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def own_caches(tmp_path_factory):
    """Features that a test computes are kept in no user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCH_HOME", str(tmp_path_factory.mktemp("torch")))
        yield


@pytest.fixture(autouse=True)
def own_draws():
    """What a test draws does not depend on those before it."""
    torch.manual_seed(0)


@pytest.fixture
def usual_kernels(monkeypatch):
    """The switches of `choose_kernels`, put back afterwards."""
    cudnn = torch.backends.cudnn
    before, precision = (cudnn.allow_tf32, cudnn.benchmark), torch.get_float32_matmul_precision()
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")  # which is put back too
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    yield
    cudnn.allow_tf32, cudnn.benchmark = before
    torch.set_float32_matmul_precision(precision)
    torch.use_deterministic_algorithms(False)
