"""How long each output of a survey program takes alone, from the program's profile."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from device_runner.report import Profile
from harness.stats import Array


@dataclass(frozen=True)
class OperatorKind:
    """A kind of operator that is recognised on both sides.

    Attributes:
        nodes: operations of the exported graph, and how many operators each becomes.
        operators: how their names begin in the profile.
    """

    nodes: Mapping[str, int]
    operators: tuple[str, ...]


# The backend fuses, renames and reorders; these survive one for one. Batch norm that no convolution took in becomes a
# depthwise convolution. A kind whose two totals differ in some network is not used there.
KINDS: Mapping[str, OperatorKind] = {
    "product": OperatorKind(
        dict.fromkeys(("conv1d", "conv2d", "conv_transpose2d", "linear", "addmm", "mm", "batch_norm"), 1),
        ("Convolution", "Deconvolution", "Fully Connected", "native_call_convolution", "native_call_addmm"),
    ),
    "batch product": OperatorKind(
        {"matmul": 1, "bmm": 1, "scaled_dot_product_attention": 2}, ("Batch Matrix Multiply",)
    ),
    "softmax": OperatorKind({"softmax": 1, "scaled_dot_product_attention": 1}, ("Softmax",)),
    "norm": OperatorKind({"layer_norm": 1}, ("native_call_native_layer_norm",)),
    "add": OperatorKind({"add": 1, "add_": 1}, ("Add (ND)",)),
    "subtract": OperatorKind({"sub": 1}, ("Subtract (ND)",)),
    "multiply": OperatorKind({"mul": 1}, ("Multiply (ND)",)),
    "pool": OperatorKind(
        dict.fromkeys(("max_pool2d", "avg_pool2d", "adaptive_avg_pool2d", "mean"), 1),
        (
            "Max Pooling",
            "Average Pooling",
            "Global Average Pooling",
            "Mean (ND)",
            "native_call_mean",
            "native_call_avg",
        ),
    ),
    "gelu": OperatorKind({"gelu": 1}, ("GELU",)),
    "concatenate": OperatorKind({"cat": 1}, ("Concatenate", "native_call_cat")),
}
_ANCHOR_KIND = "product"  # without it nothing can be told
_TRANSPOSE = "Transpose"


@dataclass(frozen=True)
class Place:
    """Where an output lies among the operators of a profile.

    Attributes:
        end: so many operators had run; those that only bring other outputs into row-major order are among them.
        transpose: the operator that brings this one into row-major order, as it would in its own head.
    """

    end: int
    transpose: int | None


def find_places(
    operators: Sequence[str], needed: Sequence[Mapping[str, int]], maps: Sequence[bool]
) -> tuple[Place, ...] | None:
    """Find each output among the operators by counting what must have run before it.

    Args:
        operators: names, in the order in which they ran.
        needed: how many of each kind every output needs (`count_operators`); the last needs them all.
        maps: whether each output is a map (4 dimensions), which XNNPACK computes with its channels last and must
            transpose.

    Returns:
        None where the operators cannot be told apart.
    """
    where = {name: list(_numbers(operators, kind)) for name, kind in KINDS.items()}
    usable = [name for name, found in where.items() if found and len(found) == needed[-1].get(name, 0)]
    if _ANCHOR_KIND not in usable:
        return None
    spans = []
    for counts in needed:
        last = max((where[name][counts[name] - 1] for name in usable if counts.get(name)), default=-1)
        following = [where[name][counts.get(name, 0)] for name in usable if counts.get(name, 0) < len(where[name])]
        spans.append((last, min(following, default=len(operators))))
    return tuple(_between(operators, spans, maps))


def _numbers(operators: Sequence[str], kind: OperatorKind) -> Iterator[int]:
    return (i for i, name in enumerate(operators) if name.startswith(kind.operators))


def _between(operators: Sequence[str], spans: Sequence[tuple[int, int]], maps: Sequence[bool]) -> Iterator[Place]:
    """Outputs that no recognised operator lies between take the transposes there in their own order."""
    taken: Counter[int] = Counter()
    for (last, following), is_map in zip(spans, maps, strict=True):
        sharing = sum(p for (other, _), p in zip(spans, maps, strict=True) if other == last)
        transposes = [i for i in range(last + 1, following) if operators[i].startswith(_TRANSPOSE)]
        if is_map and len(transposes) >= sharing:
            own = transposes[taken[last]]
            taken[last] += 1
            yield Place(own, own)
        else:
            yield Place(last + 1, None)


@dataclass(frozen=True)
class ProfiledTimes:
    """What the profile of a survey program says of each output's own head.

    Args:
        times_ns: iterations x operators.
        places: of each output.
    """

    times_ns: Array
    places: tuple[Place, ...]
    _kept: Array = field(init=False, repr=False)

    def __post_init__(self) -> None:
        kept = self.times_ns.copy()
        kept[:, [place.transpose for place in self.places if place.transpose is not None]] = 0.0
        object.__setattr__(self, "_kept", kept)

    def head_ns(self, output: int) -> Array:
        """One time per iteration: all operators up to the output, without the transposes of the others."""
        place = self.places[output]
        own = 0.0 if place.transpose is None else self.times_ns[:, place.transpose]
        return np.asarray(self._kept[:, : place.end].sum(axis=1) + own, dtype=np.float64)


def profiled_times(
    profile: Profile | None, needed: Sequence[Mapping[str, int]], maps: Sequence[bool]
) -> ProfiledTimes | None:
    """The times of every output's head; None without a profile, or where its operators cannot be told apart."""
    if profile is None or not profile.times_ns:
        return None
    places = find_places(profile.operators, needed, maps)
    return ProfiledTimes(np.asarray(profile.times_ns, dtype=np.float64), places) if places else None
