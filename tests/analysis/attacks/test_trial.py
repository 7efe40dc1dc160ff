"""What a user's attack does wrong fails that attack, in one line that says what and where."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from analysis.attacks import ATTACKS, Attack, Pairs, check_attacks
from analysis.attacks.trial import Trial
from analysis.errors import AttackError
from device_runner.errors import MachineError, UsageError
from tests.parts import attacks
from tests.parts.smooth import mixing_head, smooth_pictures

OWN = Pairs(smooth_pictures(12, 0), mixing_head(smooth_pictures(12, 0)), tuple("abcdef" * 2))
HELD_OUT = smooth_pictures(4, 1)
SHIPPED = mixing_head(HELD_OUT)


def trial(kind: type[Attack]) -> Trial:
    return Trial(f"tests.parts.attacks:{kind.__name__}")


def fitted(kind: type[Attack]) -> Trial:
    one = trial(kind)
    one.fit(OWN, mixing_head, None)
    return one


def whole(kind: type[Attack]) -> Tensor:
    """Everything that a run asks of an attack."""
    one = trial(kind)
    one.skip(OWN)
    one.fit(OWN, mixing_head, None)
    one.learned()
    return one.rebuild(SHIPPED)


def test_an_attack_that_needs_no_init_of_its_parent_works_without() -> None:
    assert whole(attacks.Forgetful).shape == HELD_OUT.shape


@pytest.mark.parametrize(
    "method", ["__init__", "skip", "_fit", "_rebuild", "progress", "converged", "cut_short", "chosen", "found"]
)
@pytest.mark.parametrize(
    ("error", "words"),
    [
        (KeyError("test"), "KeyError: 'test'"),
        (TypeError("float and NoneType"), "TypeError: float and NoneType"),
        (AssertionError(), "AssertionError"),
        (NotImplementedError("later"), "NotImplementedError: later"),
        (SystemExit(2), "SystemExit: it ended with status 2"),
        (StopIteration(), "StopIteration"),
        (GeneratorExit(), "GeneratorExit"),
        (attacks.Broken("bent"), "Broken: bent"),
        (attacks.SpeechlessError(), "SpeechlessError"),
        (torch.OutOfMemoryError("of CUDA"), "OutOfMemoryError: of CUDA"),
        (MemoryError(), "MemoryError"),
        (ValueError("one line \udcff\x1b\nand another"), r"ValueError: one line \xff\x1b"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_whatever_it_raises_is_one_line_with_class_message_and_its_own_place(
    error: BaseException, words: str, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attacks.Raising, "error", error, raising=False)
    monkeypatch.setattr(attacks.Raising, "method", method)
    with pytest.raises(AttackError) as told:
        whole(attacks.Raising)
    found = re.fullmatch(r"(.*) \(attacks\.py:(\d+)\)", str(told.value))
    assert found, str(told.value)
    assert found[1] == words
    lines = Path(attacks.__file__).read_text().splitlines()
    assert "raise self.error" in lines[int(found[2]) - 1]


def test_ctrl_c_goes_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attacks.Raising, "error", KeyboardInterrupt(), raising=False)
    with pytest.raises(KeyboardInterrupt):
        whole(attacks.Raising)


def test_an_error_of_ours_keeps_its_remedy_and_is_the_attacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attacks.Raising, "error", MachineError("no disk", remedy="buy one"), raising=False)
    with pytest.raises(AttackError, match="no disk; buy one"):
        whole(attacks.Raising)


@pytest.mark.parametrize(
    ("kind", "words"),
    [(attacks.Exits, "SystemExit: it ended with status no licence"), (attacks.Endless, "RecursionError: maximum")],
)
def test_one_that_leaves_or_never_ends_its_calls_is_told_with_its_place(kind: type[Attack], words: str) -> None:
    with pytest.raises(AttackError, match=rf"{words}.*\(attacks\.py:\d+\)"):
        whole(kind)


def test_what_torch_raises_is_told_with_the_place_that_called_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attacks.Changed, "change", staticmethod(torch.trace))
    with pytest.raises(AttackError, match=r"^RuntimeError: .* \(attacks\.py:\d+\)$"):
        whole(attacks.Changed)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda p: p.permute(0, 2, 3, 1), "gave float32 x 4 x 16 x 16 x 3, not float32 x 4 x 3 x 16 x 16"),
        (lambda p: p.double(), "gave float64 x 4 x 3 x 16 x 16, not float32"),
        (lambda p: p.half(), "gave float16"),
        (lambda p: (p * 255).to(torch.uint8), "gave uint8 .*; divide bytes by 255"),
        (lambda p: p[:3], "gave float32 x 3 x 3 x 16 x 16, not float32 x 4"),
        (lambda p: p[:, :1], "gave float32 x 4 x 1 x 16 x 16"),
        (lambda p: p[..., :8], "gave float32 x 4 x 3 x 16 x 8"),
        (lambda p: p[0, 0, 0, 0], "gave float32, not"),
        (lambda p: p.requires_grad_(), r"requires gradients; detach\(\) it"),
        (lambda p: p.numpy(), "gave a ndarray, not a tensor"),
        (lambda p: list(p), "gave a list, not a tensor"),
        (lambda _: None, r"gave nothing \(None\), not a tensor, float32 x 4 x 3 x 16 x 16"),
        (lambda p: p.to("meta"), "tensor on meta"),
        (lambda p: p.to_sparse(), "gave a sparse_coo tensor"),
        (lambda p: p * torch.nan, "of the pictures rebuilt by attack changed are NaN or infinite"),
        (lambda p: p / 0, "are NaN or infinite"),
    ],
)
def test_what_is_no_picture_is_told_with_what_is_expected(
    change: Callable[[Tensor], object], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attacks.Changed, "change", staticmethod(change))
    with pytest.raises(AttackError, match=words) as told:
        whole(attacks.Changed)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    "change",
    [
        lambda p: p * 255,
        lambda p: p * 2 - 1,
        lambda p: (p - 0.45) / 0.225,
        lambda p: (p / (1 - p)).log() * 3,
        lambda p: p - 0.8,
    ],
    ids=["bytes", "from -1 to 1", "normalised", "logits", "too dark"],
)
def test_answers_far_outside_are_refused_with_how_far_they_reach(
    change: Callable[[Tensor], Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attacks.Changed, "change", staticmethod(change))
    with pytest.raises(AttackError) as told:
        whole(attacks.Changed)
    answers = change(OWN.pictures.mean(0))
    reach = f"its answers reach from {float(answers.min()):.3g} to {float(answers.max()):.3g}: pictures are on [0, 1]"
    assert str(told.value).startswith(reach)


def test_a_little_over_the_edge_is_cut_off_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attacks.Changed, "change", staticmethod(lambda p: (p - 0.5) * 2.9 + 0.5))
    cut = whole(attacks.Changed)
    assert 0 == cut.min() < cut.max() == 1


@pytest.mark.parametrize("name", ["linear", "spectral"])
def test_a_built_in_attack_gives_what_it_gives_alone(name: str) -> None:
    one, alone = Trial(name), ATTACKS.load(name)()
    one.fit(OWN, mixing_head, None)
    alone.fit(OWN, head=mixing_head)
    assert torch.equal(one.rebuild(SHIPPED), alone.rebuild(SHIPPED))


def state() -> tuple[object, ...]:
    return (
        torch.get_default_dtype(),
        torch.is_grad_enabled(),
        torch.get_num_threads(),
        torch.are_deterministic_algorithms_enabled(),
        torch.get_rng_state().tolist(),
        random.getstate(),
        np.random.get_state()[1].tolist(),  # type: ignore[index]
        Path.cwd(),
    )


def test_what_an_attack_changes_is_neither_the_others_pairs_nor_the_process() -> None:
    before, own, shipped = state(), (OWN.pictures.clone(), OWN.activations.clone()), SHIPPED.clone()
    whole(attacks.Poisonous)
    assert state() == before
    assert torch.equal(OWN.pictures, own[0])
    assert torch.equal(OWN.activations, own[1])
    assert torch.equal(SHIPPED, shipped)


def test_what_it_changed_before_it_failed_is_undone_too(monkeypatch: pytest.MonkeyPatch) -> None:
    before = state()

    def leave(_: Attack, own: Pairs, head: object, budget_s: object) -> None:
        del own, head, budget_s
        torch.set_default_dtype(torch.float64)
        torch.set_grad_enabled(False)
        raise KeyError

    monkeypatch.setattr(attacks.Mean, "_fit", leave)
    with pytest.raises(AttackError, match="KeyError"):
        whole(attacks.Mean)
    assert state() == before


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (attacks.Uncountable, "its progress has values that are NaN"),
        (attacks.Vague, "its chosen is 7, not the name"),
        (attacks.Undecided, "its skip gave True, which is neither a reason nor None"),
    ],
)
def test_what_cannot_be_kept_is_told(kind: type[Attack], words: str) -> None:
    with pytest.raises(AttackError, match=words):
        whole(kind)


@pytest.mark.parametrize(
    ("chosen", "words"),
    [
        (["linear", "linear"], "an attack is named twice"),
        (["tests.parts.attacks:Mean", "tests.parts.attacks:Mean"], "an attack is named twice"),
        (["linear", "tests.parts.attacks:Linear"], "has the name of 'linear'"),
        (["tests.parts.attacks:Linear"], "has the name of 'linear'"),
        (["tests.parts.attacks:Mean", "tests.parts.attacks:Twin"], "has the name of 'tests.parts.attacks:Mean': mean"),
        (["tests.parts.attacks:Half"], "attack 'tests.parts.attacks:Half' has no _rebuild"),
        (["tests.parts.attacks:Nameless"], "the `name` of attack 'tests.parts.attacks:Nameless' is None"),
        (["tests.parts.attacks:Numbered"], "is 7; write name ="),
        (["tests.parts.attacks:Coloured"], r"is '\\x1b\[31mred'"),
        (["tests.parts.attacks:Anything"], "the `access` of .* is 'grey-box'"),
        (["tests.parts.attacks:NeedsWords"], "is made without arguments, but: missing a required argument: 'words'"),
        (["tests.parts.attacks:Nowhere"], "cannot be loaded"),
        ([""], "unknown attack ''"),
    ],
)
def test_what_is_no_whole_attack_is_known_before_anything_is_measured(chosen: list[str], words: str) -> None:
    with pytest.raises(UsageError, match=words) as told:
        check_attacks(chosen)
    assert "\n" not in str(told.value)


def test_whole_attacks_pass_ours_and_users() -> None:
    check_attacks([*ATTACKS, "tests.parts.attacks:Mean", "tests.parts.attacks:Poisonous"])


def test_an_attack_whose_search_found_no_pictures_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    one = fitted(attacks.Searching)
    rebuilt = one.rebuild(SHIPPED)
    assert one.found is not None
    assert torch.equal(one.found, 2 * rebuilt)
    for found, told in ((torch.zeros(4), "gave float32 x 4, not float32 x 4 x 3"), ("none", "gave a str")):
        monkeypatch.setattr(attacks.Searching, "find", staticmethod(lambda _, found=found: found))
        with pytest.raises(AttackError, match=told):
            one.rebuild(SHIPPED)
