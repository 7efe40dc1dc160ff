"""A link by its rate and its round-trip time: shaped on a device, or modelled afterwards."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

from device_runner.errors import UsageError

_BITS_PER_S = {"kbit": 1e3, "mbit": 1e6, "gbit": 1e9}
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
_NUMBER = r"(\d+(?:\.\d+)?)"
_FORM = re.compile(rf"(?:([\w.-]+):)?{_NUMBER}(kbit|mbit|gbit)/{_NUMBER}(us|ms|s)", re.ASCII | re.IGNORECASE)
_EXAMPLE = "write it like wifi:40mbit/5ms: a name if you like, kbit, mbit or gbit a second, round trip in us, ms or s"


@dataclass(frozen=True)
class LinkShape:
    """A link that takes a round trip, and then so many bytes a second.

    Attributes:
        rate_bytes_per_s: above 0.
        rtt_s: spent once for each activation, in front of its first byte.
        name: what its user calls it; empty where it has no name.
    """

    rate_bytes_per_s: float
    rtt_s: float
    name: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `[NAME:]RATE/RTT`: "wifi:40mbit/5ms", "1.5gbit/200us".

        Raises:
            UsageError: another form, a rate outside 1 kbit to 100 gbit a second, or a round trip above 2 s.
        """
        match = _FORM.fullmatch(text)
        if match is None:
            raise UsageError(f"'{text}' is not a valid link", remedy=_EXAMPLE)
        name, rate, rate_unit, rtt, rtt_unit = match.groups()
        bits_per_s = float(rate) * _BITS_PER_S[rate_unit.lower()]
        rtt_s = round(float(rtt) * _SECONDS[rtt_unit.lower()], 9)  # whole nanoseconds, as head_runner takes them
        if not (1e3 <= bits_per_s <= 100e9 and rtt_s <= 2):
            raise UsageError(f"link '{text}' is out of range", remedy="stay within 1kbit to 100gbit and 0s to 2s")
        return cls(bits_per_s / 8, rtt_s, name or "")

    def __str__(self) -> str:
        """The text that `parse` takes, each number in the largest unit that leaves 1 or more."""
        prefix = f"{self.name}:" if self.name else ""
        return f"{prefix}{_in_unit(self.rate_bytes_per_s * 8, _BITS_PER_S)}/{_in_unit(self.rtt_s, _SECONDS)}"


def _in_unit(value: float, units: dict[str, float]) -> str:
    fitting = [unit for unit, size in units.items() if round(value / size, 9) >= 1]
    unit = fitting[-1] if fitting else next(iter(units))
    return f"{value / units[unit]:.9g}{unit}"
