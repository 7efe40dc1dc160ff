"""A link as text: what is written is what is meant, and what cannot be meant is refused with an example."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_runner.errors import UsageError
from device_runner.link import LinkShape


@pytest.mark.parametrize(
    ("text", "shape", "canonical"),
    [
        ("wifi:40mbit/5ms", LinkShape(5e6, 0.005, "wifi"), "wifi:40mbit/5ms"),
        ("40Mbit/5MS", LinkShape(5e6, 0.005), "40mbit/5ms"),
        ("lte-cat.4_x:1500kbit/0.05s", LinkShape(187_500, 0.05, "lte-cat.4_x"), "lte-cat.4_x:1.5mbit/50ms"),
        ("0.5gbit/200us", LinkShape(62.5e6, 0.0002), "500mbit/200us"),
        ("100gbit/0s", LinkShape(12.5e9, 0), "100gbit/0us"),
        ("5g:1kbit/2s", LinkShape(125, 2, "5g"), "5g:1kbit/2s"),
    ],
)
def test_a_link_is_read_and_written(text: str, shape: LinkShape, canonical: str) -> None:
    assert LinkShape.parse(text) == shape
    assert str(shape) == canonical


@given(
    rate=st.floats(1, 100e6, allow_subnormal=False),
    rtt=st.floats(0, 2e6, allow_subnormal=False),
)
def test_a_written_link_reads_as_the_same_link(rate: float, rtt: float) -> None:
    shape = LinkShape.parse(f"{rate:.6f}kbit/{rtt:.6f}us")
    again = LinkShape.parse(str(shape))
    assert str(again) == str(shape)
    assert again.rate_bytes_per_s == pytest.approx(shape.rate_bytes_per_s, rel=1e-8)
    assert again.rtt_s == pytest.approx(shape.rtt_s, rel=1e-8)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "wifi",
        "40mbit",
        "40mbit/",
        "40/5ms",
        "40mbit/5",
        "40mb/5ms",
        "-40mbit/5ms",
        "40mbit/-5ms",
        "1e3mbit/5ms",
        "my wifi:40mbit/5ms",
        ":40mbit/5ms",
        "40mbit/5ms\n",
        "nanmbit/5ms",
        "0mbit/5ms",
        "101gbit/5ms",
        "40mbit/3s",
        "٤mbit/5ms",
    ],
)
def test_what_is_no_link_is_a_usage_error_that_shows_how(text: str) -> None:
    with pytest.raises(UsageError, match="link") as caught:
        LinkShape.parse(text)
    assert "mbit" in caught.value.remedy or "kbit" in caught.value.remedy
