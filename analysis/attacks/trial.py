"""An attack as a run calls it: what its code raises fails it alone, and what it changes harms nobody else."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from torch import Tensor

from analysis.attacks import ATTACKS
from analysis.attacks.base import Attack, CrossFitted, HeadFunction, Pairs
from analysis.errors import AttackError
from device_runner.errors import SplitbenchError
from device_runner.raised import in_one_line
from harness.networks.process_state import kept

# Root mean square of what is cut off where answers leave [0, 1], over all pictures. `linear` before it is clipped
# reaches from -0.40 to 1.32, of which 0.019 at most is cut off (efficientnet_lite0, resnet18 and mobilenet_v2 at 64x64,
# 6 splits each, 16 held-out photographs); the other built-in attacks stay closer. The mean picture on [-1, 1], or
# normalised, loses 0.19. On pictures unlike those that it learned from (stripes, documents) `linear` loses up to 0.89:
# hence the built-in attacks clip their answers themselves.
MOST_CUT_OFF = 0.05


@dataclass(frozen=True)
class Learned:
    """What an attack says of itself once it has learned."""

    converged: bool | None
    cut_short: bool
    chosen: str | None
    progress: tuple[tuple[float, float], ...]


class Trial:
    """One attack at one split.

    Args:
        name: as `--attack` has it.
        among: the run's attacks, for one that chooses among others.

    Raises:
        AttackError: by this and by every method: the attack's own code failed, or gave back something else than
            promised. The message says what and where.
    """

    def __init__(self, name: str, among: Sequence[str] = ()) -> None:
        self._kind = ATTACKS.load(name)
        self._is_ours = name in ATTACKS
        with self._theirs():
            self._attack = self._kind.among(among)

    @property
    def attack(self) -> Attack:
        """The attack itself."""
        return self._attack

    @property
    def is_white_box(self) -> bool:
        """Whether it tried to match activations."""
        return self._kind.access == "white-box"

    def skip(self, own: Pairs) -> str | None:
        """Why it cannot be tried here, or None."""
        with self._theirs():
            reason = self._attack.skip(own.activation_shape, own.input_size)
        if reason is not None and not isinstance(reason, str):
            raise AttackError(f"its skip gave {reason!r}, which is neither a reason nor None")
        return reason

    def fit(self, own: Pairs, head: HeadFunction, budget_s: float | None, start_from: Trial | None = None) -> None:
        """Learn from `own`, of which a user's attack gets a copy: other attacks learn from the same pairs."""
        with self._theirs():
            start = start_from.attack if start_from else None
            self._attack.fit(self._copied(own), head=head, budget_s=budget_s, start_from=start)

    def learned(self) -> Learned:
        """What it says of itself."""
        with self._theirs():
            progress = tuple((float(step.seconds), float(step.psnr_db)) for step in self._attack.progress)
            converged, chosen = self._attack.converged, self._attack.chosen
            cut_short = self._attack.cut_short
        if not all(math.isfinite(value) for step in progress for value in step):
            raise AttackError("its progress has values that are NaN or infinite")
        if not (converged is None or isinstance(converged, bool)):
            raise AttackError(f"its converged is {converged!r}, not True, False or None")
        if not isinstance(cut_short, bool):
            raise AttackError(f"its cut_short is {cut_short!r}, not True or False")
        if not (chosen is None or isinstance(chosen, str)):
            raise AttackError(f"its chosen is {chosen!r}, not the name of an attack")
        return Learned(converged, cut_short, chosen, progress)

    def rebuild(self, activations: Tensor) -> Tensor:
        """The pictures behind activations, as `Attack.rebuild` gives them.

        Raises:
            AttackError: moreover where cutting the answers to [0, 1] would take away much of them.
        """
        with self._theirs():
            answers = self._attack.unclipped(activations.clone())
        pictures = answers.clamp(0, 1)
        cut_off = float((answers - pictures).square().mean().sqrt()) if len(answers) else 0.0
        if cut_off > MOST_CUT_OFF:
            raise AttackError(
                f"its answers reach from {float(answers.min()):.3g} to {float(answers.max()):.3g}: "
                "pictures are on [0, 1]",
                remedy="divide bytes by 255, undo a normalisation, or clamp(0, 1) what is meant so",
            )
        return pictures

    @property
    def found(self) -> Tensor | None:
        """What its search found for what was rebuilt last, before that was mixed with anything; None without one."""
        with self._theirs():
            return self._attack.found

    def out_of_fold(self, own: Pairs) -> Tensor:
        """Its answers to some of the receiver's own pictures, as `CrossFitted.out_of_fold` gives them."""
        assert isinstance(self._attack, CrossFitted)  # noqa: S101 - it is asked of no others
        with self._theirs():
            return self._attack.out_of_fold(self._copied(own))

    def _copied(self, own: Pairs) -> Pairs:
        if self._is_ours:  # the contract tests hold ours to change nothing
            return own
        return replace(own, pictures=own.pictures.clone(), activations=own.activations.clone())

    @contextmanager
    def _theirs(self) -> Iterator[None]:
        """Code of the attack runs: it may raise anything. Only Ctrl-C goes through."""
        with kept():
            try:
                yield
            except (KeyboardInterrupt, AttackError):
                raise
            except SplitbenchError as exc:
                raise AttackError(exc.message, remedy=exc.remedy) from exc
            except BaseException as exc:
                raise AttackError(in_one_line(exc)) from exc
