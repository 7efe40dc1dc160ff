"""What a study measures: its cells, and the plans that choose them."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from itertools import chain, product
from pathlib import Path
from typing import Literal

from analysis.study.families import DEPTHS, FAMILIES, Member
from analysis.study.photographs import FOLDS, HELD_OUT_PICTURES, TRAIN_PICTURES
from device_runner.files import digest
from device_runner.strict import StrictModel

SEEDS, QUICK_SEEDS = 10, 2
# Folds of photographs that each seed of the families is judged on; they rotate with the seed.
FOLDS_PER_SEED = 2
# Shares of the MACs at which the networks of the zoo are cut.
SHARES = (0.1, 0.3, 0.5, 0.8)
ZOO = (
    "vgg11", "vgg11_bn", "vgg16", "vgg16_bn", "vgg19", "vgg19_bn", "alexnet", "resnet18", "resnet50", "wide_resnet50_2",
    "densenet121", "googlenet", "inception_v3", "mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large",
    "efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2", "efficientnet_b0", "shufflenet_v2_x1_0",
    "squeezenet1_1", "convnext_tiny", "vit_b_16", "swin_t",
)  # fmt: skip
QUICK_ZOO = ("vgg16_bn", "alexnet", "resnet18", "mobilenet_v2", "efficientnet_lite0", "squeezenet1_1")
# Networks that really are trained, where their weights are installed.
CASES = ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2")
# Everywhere in the families: the textbook's attack, as the paper's; one without gradients; a strong one.
ATTACKS = ("whitebox", "linear", "spectral")
# High enough that fitting changes the weights: at 0.7 twenty batches do.
FIT_TARGET, FIT_MOST_STEPS = 0.9, 1000
# Seconds on one core, roughly: of an attack at one cut of a family's network, of making a network ready, of fitting it.
ATTACK_S = {"linear": 1.5, "spectral": 6.0, "whitebox": 9.0, "best": 80.0}
FAMILY_S, NAMED_S, FIT_S = 2.5, 15.0, 5.0
# How many times as long an attack takes on the larger networks that have names.
NAMED_TIMES = 2.0

Kind = Literal["family", "zoo", "case"]
State = Literal["untrained", "fitted", "trained"]
FAMILY_STATES: tuple[State, ...] = ("untrained", "fitted")


class Specimen(StrictModel):
    """One network with one set of weights, and the photographs that it is judged on.

    Attributes:
        network: a key of `NETWORKS` ("skip/residual"), or a model's name.
        state: "fitted" to telling photographs apart is not "trained".
        seed: of weights and fitting.
        fold: whose photographs are held out, from 0.
    """

    kind: Kind
    network: str
    state: State
    seed: int
    fold: int


class StudyCell(StrictModel):
    """A specimen, cut and attacked.

    Attributes:
        cut: place among the member's cuts, or in `SHARES`.
    """

    specimen: Specimen
    cut: int
    attack: str

    def key(self, photographs_sha256: str) -> str:
        """Hash of all that decides the cell's figures: itself, the photographs, and the code of what is studied."""
        return digest(self.model_dump_json(), photographs_sha256, _protocol())[:24]


@dataclass(frozen=True)
class Plan:
    """The cells of a study, in the order in which they are attacked, and what was left out to fit its time."""

    cells: tuple[StudyCell, ...]
    seeds: int
    left_out: tuple[str, ...]


def _unique_networks() -> dict[str, Member]:
    unique: dict[str, Member] = {}
    for members in FAMILIES.values():
        for member in members:
            if member.structure not in [known.structure for known in unique.values()]:
                unique[f"{member.family}/{member.name}"] = member
    return unique


# The networks of the families, each once: most families share their reference.
NETWORKS = _unique_networks()


def network_of(family: str, name: str) -> str:
    """The key of `NETWORKS` under which a family's member is measured."""
    wanted = next(member for member in FAMILIES[family] if member.name == name)
    return next(key for key, member in NETWORKS.items() if member.structure == wanted.structure)


# `best` takes minutes: it is tried on these alone, untrained, at the deepest cut.
BEST_NETWORKS = (
    *(network_of("skip", name) for name in ("plain", "residual")),
    network_of("branches", "inception"),
    *(network_of("depth", f"plain_{depth}") for depth in DEPTHS[1:]),
)


def full_plan(seeds: int = SEEDS) -> Plan:
    """Everything; made for 6 hours on two cores with 10 seeds.

    What decides most comes first, for who ends it early: seeds before more photographs a seed.
    """
    first, *others = [list(_family_specimens(seeds, FAMILY_STATES, turn)) for turn in range(FOLDS_PER_SEED)]
    best = [
        StudyCell(specimen=specimen, cut=len(NETWORKS[specimen.network].cuts) - 1, attack="best")
        for specimen in first
        if specimen.network in BEST_NETWORKS and specimen.state == "untrained"
    ]
    left_out = (
        f"each seed is judged on {FOLDS_PER_SEED} of {FOLDS} folds of held-out photographs, which rotate with the seed",
        f"`best` is tried on {', '.join(BEST_NETWORKS)} alone, untrained, at the deepest cut, on one fold a seed",
        "`whitebox` is not tried on the zoo; `spectral` there on one fold of photographs",
        "networks of the zoo have one seed each: they differ in everything at once, and get no verdict",
    )
    cases, zoo = _named("case", CASES, "trained"), _named("zoo", ZOO, "untrained")
    return Plan((*_all_attacks(first), *cases, *best, *zoo, *_all_attacks(chain(*others))), seeds, left_out)


def quick_plan(seeds: int = QUICK_SEEDS) -> Plan:
    """What fits into 15 minutes on two cores: a look at everything, no verdict."""
    families = _all_attacks(_family_specimens(seeds, ("untrained",), 0))
    zoo = [_specimen("zoo", name, "untrained", 0, 0) for name in QUICK_ZOO]
    left_out = (
        f"`--quick`: fitted networks, `best`, the trained networks, and all folds but one of {FOLDS} a seed",
        f"`--quick`: all networks of the zoo but {', '.join(QUICK_ZOO)}, and all attacks on them but `linear`",
    )
    return Plan((*families, *(cell for one in zoo for cell in _cells(one, ("linear",)))), seeds, left_out)


def grouped(cells: Sequence[StudyCell]) -> dict[Specimen, list[StudyCell]]:
    """The cells of each specimen, which are attacked together."""
    groups: dict[Specimen, list[StudyCell]] = {}
    for cell in cells:
        groups.setdefault(cell.specimen, []).append(cell)
    return groups


def estimated_seconds(cells: Sequence[StudyCell]) -> float:
    """About how long these cells take one core, in seconds."""
    return sum(_seconds(specimen, own) for specimen, own in grouped(cells).items())


def _seconds(specimen: Specimen, cells: Sequence[StudyCell]) -> float:
    attacks = sum(ATTACK_S[cell.attack] for cell in cells)
    if specimen.kind != "family":
        return NAMED_S + NAMED_TIMES * attacks
    return FAMILY_S + attacks + (FIT_S if specimen.state == "fitted" else 0)


def _family_specimens(seeds: int, states: Sequence[State], turn: int) -> Iterator[Specimen]:
    """Seed by seed, so that whatever is finished of a study compares like with like."""
    for seed, state, network in product(range(seeds), states, NETWORKS):
        yield _specimen("family", network, state, seed, (seed + turn * (FOLDS // FOLDS_PER_SEED)) % FOLDS)


def _specimen(kind: Kind, network: str, state: State, seed: int, fold: int) -> Specimen:
    return Specimen(kind=kind, network=network, state=state, seed=seed, fold=fold)


def _all_attacks(specimens: Iterable[Specimen]) -> Iterator[StudyCell]:
    """Every attack on networks of the families."""
    return (cell for specimen in specimens for cell in _cells(specimen, ATTACKS))


def _named(kind: Kind, networks: Sequence[str], state: State) -> Iterator[StudyCell]:
    """The strong attack on one fold of photographs alone."""
    for name, fold in product(networks, range(FOLDS)):
        yield from _cells(_specimen(kind, name, state, 0, fold), ("linear",) if fold else ("linear", "spectral"))


def _cells(specimen: Specimen, attacks: Sequence[str]) -> Iterator[StudyCell]:
    cuts = len(NETWORKS[specimen.network].cuts if specimen.kind == "family" else SHARES)
    return (StudyCell(specimen=specimen, cut=cut, attack=attack) for cut in range(cuts) for attack in attacks)


@cache
def _protocol() -> str:
    """The settings and the code that figures depend on: those of two versions never meet in one verdict."""
    package = Path(__file__).parents[1]
    files = [package / "judging.py", package / "metrics.py", *sorted((package / "attacks").glob("*.py"))]
    files += [package / "study" / name for name in ("families.py", "fitting.py", "specimens.py")]
    settings = (TRAIN_PICTURES, HELD_OUT_PICTURES, FOLDS, SHARES, FIT_TARGET, FIT_MOST_STEPS, version("torch"))
    return digest(settings, *(_without_words(file.read_text()) for file in files))


def _without_words(source: str) -> str:
    """A module's syntax tree without comments and docstrings, which decide nothing."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return ast.dump(tree)
