"""Where the workstation computes: attacks, and the activations that they learn from."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from device_runner.errors import UsageError

AUTO = "auto"
CHOICES = "auto, cpu, cuda, cuda:N or mps"


@dataclass(frozen=True)
class Compute:
    """A processor of the workstation, as torch names it; everything that computes there is made or moved by it."""

    device: torch.device

    @classmethod
    def of(cls, asked: str) -> Compute:
        """What `--compute` names; `auto` is the first CUDA device, or else the CPU.

        Raises:
            UsageError: there is no such device here.
        """
        if asked == AUTO:
            return cls(torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu"))
        try:
            device = torch.device(asked)
        except RuntimeError as exc:
            raise UsageError(f"'{asked}' is no processor", remedy=f"choose {CHOICES}") from exc
        here = _here()
        if device.type == "cuda" and device.index is None:
            device = torch.device("cuda", 0)
        if str(device) not in here:
            raise UsageError(f"--compute {asked}: torch sees none here", remedy=f"choose one of: {', '.join(here)}")
        return cls(device)

    def __str__(self) -> str:
        """For instance "cuda:0 (NVIDIA H100 80GB HBM3)"."""
        name = f" ({torch.cuda.get_device_name(self.device)})" if self.device.type == "cuda" else ""
        return f"{self.device}{name}"


def _here() -> list[str]:
    found = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    return [*found, "mps"] if torch.backends.mps.is_available() else found
