"""The front is what nothing beats in time and leakage, each device for itself."""

from __future__ import annotations

import pandas as pd

from analysis.decision.front import on_front


def _rows(*rows: tuple[float | None, float | None], device: str = "local") -> pd.DataFrame:
    times, psnr = zip(*rows, strict=True)
    table = pd.DataFrame({"end_to_end_p50_ms": times, "psnr_db": psnr}, dtype="float64")
    return table.assign(model="m", input_size="8x8", precision="fp32", device=device, threads=1, attack="a")


def test_the_front_is_what_nothing_beats_in_time_and_leakage() -> None:
    table = _rows((5.0, 30.0), (4.0, 30.0), (6.0, 20.0), (7.0, 20.0), (3.0, 40.0), (8.0, 25.0))
    assert on_front(table).tolist() == [False, True, True, False, True, False]


def test_devices_have_fronts_of_their_own_and_what_is_not_known_is_not_dominated() -> None:
    table = pd.concat([_rows((5.0, 30.0), (None, 10.0), (9.0, None)), _rows((50.0, 31.0), device="pi")])
    assert on_front(table.reset_index(drop=True)).all()
