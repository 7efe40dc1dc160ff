"""What an attack may spend."""

from __future__ import annotations

import time
from dataclasses import dataclass, field


@dataclass(frozen=True)
class CpuBudget:
    """So many CPU seconds of this process, from now on: other processes on the machine take nothing from them."""

    seconds: float
    began: float = field(default_factory=time.process_time)

    @property
    def spent(self) -> float:
        """The share that is spent; 1 and more when all is."""
        return (time.process_time() - self.began) / self.seconds
