"""An attack as a run calls it: what its code raises fails it alone, and what it changes harms nobody else."""

from __future__ import annotations

import math
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor

from analysis.attacks import ATTACKS
from analysis.attacks.base import Attack, Head, Pairs
from analysis.errors import AttackError
from analysis.process_state import kept
from device_runner.errors import SplitbenchError

# Of what is cut off where answers leave [0, 1], root mean square over all pictures. The built-in attacks' answers reach
# from -0.28 to 1.20 before they are cut, which takes 0.019 at most (`linear`; efficientnet_lite0, resnet18 and
# mobilenet_v2 at 64x64, 16 held-out pictures, six splits each). Answers from -1 to 1 lose 0.15 and more.
MOST_CUT_OFF = 0.1
_LONGEST_MESSAGE = 200


@dataclass(frozen=True)
class Learned:
    """What an attack says of itself once it has learned."""

    converged: bool | None
    chosen: str | None
    progress: tuple[tuple[float, float], ...]


class Trial:
    """One attack at one split.

    Args:
        name: as `--attack` has it.

    Raises:
        AttackError: by this and by every method: the attack's own code failed, or gave back something else than
            promised. The message says what and where.
    """

    def __init__(self, name: str) -> None:
        self._kind = ATTACKS.load(name)
        self._is_ours = name in ATTACKS
        with self._theirs():
            self._attack = self._kind()

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

    def fit(self, own: Pairs, head: Head, budget_s: float | None) -> None:
        """Learn from `own`, of which a user's attack gets a copy: other attacks learn from the same pairs."""
        if not self._is_ours:  # the contract tests hold ours to change nothing
            own = Pairs(own.pictures.clone(), own.activations.clone(), own.sources)
        with self._theirs():
            self._attack.fit(own, head=head, budget_s=budget_s)

    def learned(self) -> Learned:
        """What it says of itself."""
        with self._theirs():
            progress = tuple((float(step.seconds), float(step.psnr_db)) for step in self._attack.progress)
            converged, chosen = self._attack.converged, self._attack.chosen
        if not all(math.isfinite(value) for step in progress for value in step):
            raise AttackError("its progress has values that are NaN or infinite")
        if not (converged is None or isinstance(converged, bool)):
            raise AttackError(f"its converged is {converged!r}, not True, False or None")
        if not (chosen is None or isinstance(chosen, str)):
            raise AttackError(f"its chosen is {chosen!r}, not the name of an attack")
        return Learned(converged, chosen, progress)

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
                remedy="divide bytes by 255, or undo the normalisation",
            )
        return pictures

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
                raise AttackError(in_one_line(exc, self._kind)) from exc


def in_one_line(exc: BaseException, kind: type) -> str:
    """Class, message, and the place in the user's code: "KeyError: 'test' (attacks.py:47)".

    Args:
        kind: whose code it is: places in its top-level package are its own, or else the last place of all.
    """
    try:
        text = " ".join(str(exc).split())
    except Exception:  # a class of the user's own may fail to say what it is
        text = ""
    text = text if len(text) <= _LONGEST_MESSAGE else f"{text[:_LONGEST_MESSAGE]}..."
    text = text.encode("utf-8", "backslashreplace").decode()  # it is kept as JSON
    places = list(traceback.walk_tb(exc.__traceback__))
    package = kind.__module__.partition(".")[0]
    own = [place for place in places if str(place[0].f_globals.get("__name__")).partition(".")[0] == package] or places
    where = "".join(f" ({frame.f_code.co_filename.rpartition('/')[2]}:{line})" for frame, line in own[-1:])
    return f"{type(exc).__name__}{f': {text}' if text else ''}{where}"
