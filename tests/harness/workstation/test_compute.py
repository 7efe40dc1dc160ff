"""What `--compute` names is there, or is refused with what is."""

from __future__ import annotations

import pytest
import torch

from device_runner.errors import UsageError
from harness.workstation.compute import Compute


def test_auto_is_the_first_gpu_or_else_the_cpu() -> None:
    expected = "cuda:0" if torch.cuda.is_available() else "cpu"
    assert str(Compute.of("auto").device) == expected


@pytest.mark.parametrize("asked", ["cuda:99", "meta", "xpu"])
def test_what_is_not_here_is_refused_with_what_is(asked: str) -> None:
    with pytest.raises(UsageError, match="sees none here") as caught:
        Compute.of(asked)
    assert "cpu" in str(caught.value)


@pytest.mark.parametrize("asked", ["gpu", "", "cuda:x"])
def test_what_is_no_processor_is_refused(asked: str) -> None:
    with pytest.raises(UsageError, match="is no processor"):
        Compute.of(asked)
