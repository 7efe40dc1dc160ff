"""Does a network's answer depend on the picture, and on nothing else?"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import torch
from torch import Tensor, fx, nn

from device_runner.raised import in_one_line
from harness.errors import ModelError, SplitError
from harness.networks.graph import functional_graph
from harness.networks.process_state import kept

_BATCH = 16
_PLACE = 7  # of the picture among the others
# Relative to the largest number of the answer. A picture that is computed again gave the same bits in every network
# that was tried. Among sixteen others, most fp32 networks differ by 1e-7 to 4e-6, but deep ones with random weights
# amplify rounding (efficientnet_b0: 7e-5, efficientnet_b3: 0.4): what differs is computed again in double precision.
_AGAIN, _AMONG, _AMONG_OF_TWO_BYTES = 1e-6, 1e-3, 0.05


def check_purity(name: str, module: nn.Module, size: tuple[int, int]) -> None:
    """Compute a picture alone, again, among fifteen others, and once more alone; its answer must stay the same.

    Heads are verified on one picture, attacked on batches and shipped one by one: all of that is one network only if
    its answer to a picture hangs on that picture alone.

    Args:
        name: what messages call the network.
        module: in eval mode; takes N x 3 x H x W on [0, 1], gives N x ...
        size: height and width of its pictures, in pixels.

    Raises:
        ModelError: the answers differ, with the reason where it is found.
    """
    generator = torch.Generator().manual_seed(0)
    brightness = torch.rand(
        _BATCH, 3, 1, 1, generator=generator
    )  # pictures whose means are those of the batch hide some
    one = _Trial(name, module, torch.rand(_BATCH, 3, *size, generator=generator) * brightness)
    with kept(), torch.no_grad():
        alone = one.alone()
        if not _is_close(one.alone(), alone, _AGAIN):
            raise _impure(f"{name} gives a picture another answer when it is computed again", one.why_again())
        among = one.among()
        if not (one.is_near(among, alone) or one.is_near_in_double()):
            raise _impure(f"{name} gives a picture another answer among sixteen others", one.why_among())
        if not _is_close(one.alone(), alone, _AGAIN):
            raise _impure(f"{name} gives a picture another answer after others", one.why_again())


def _impure(what: str, why: str) -> ModelError:
    return ModelError(
        f"{what}: {why}", remedy="in eval mode it must give the same, for a picture alone and among others"
    )


@dataclass(frozen=True)
class _Trial:
    name: str
    module: nn.Module
    pictures: Tensor

    @property
    def picture(self) -> Tensor:
        return self.pictures[_PLACE : _PLACE + 1]

    @property
    def size(self) -> tuple[int, int]:
        return self.pictures.shape[2], self.pictures.shape[3]

    def alone(self) -> Tensor:
        answer: Tensor = self.module(self.picture.clone())
        return answer

    def among(self) -> Tensor:
        """The picture's answer among others.

        Raises:
            ModelError: the network takes one picture at a time alone.
        """
        what = f"{self.name} takes one picture alone, not sixteen at once"
        remedy = "keep the first side of every tensor for the pictures: flatten(1), not flatten() or view(1, -1)"
        try:
            answers = self.module(self.pictures.clone())
        except KeyboardInterrupt:
            raise
        except BaseException as exc:  # the forward is the user's own code
            raise ModelError(f"{what}: {in_one_line(exc)}", remedy=remedy) from exc
        if not isinstance(answers, Tensor) or answers.dim() == 0 or len(answers) != _BATCH:
            raise ModelError(f"{what}: it gives {_shape(answers)}", remedy=remedy)
        return answers[_PLACE : _PLACE + 1]

    def is_near(self, one: Tensor, other: Tensor) -> bool:
        """Whether two computations of a picture, alone and among others, differ by no more than rounding."""
        kinds = {value.dtype for value in (*self.module.parameters(), *self.module.buffers())}
        is_coarse = any(kind.is_floating_point and kind.itemsize == 2 for kind in kinds)
        return _is_close(one, other, _AMONG_OF_TWO_BYTES if is_coarse else _AMONG)

    def is_near_in_double(self) -> bool:
        """Likewise in double precision, where even a network that amplifies rounding shows none."""
        try:
            precise = replace(self, module=copy.deepcopy(self.module).double(), pictures=self.pictures.double())
            return precise.is_near(precise.among(), precise.alone())
        except KeyboardInterrupt:
            raise
        except BaseException:  # the user's own code need not be made for another type: what was seen stands
            return False

    def why_again(self) -> str:
        """What changes from one computation of a picture to the next."""
        before = {key: value.clone() for key, value in self.module.state_dict().items()}
        self.alone()
        for key, value in self.module.state_dict().items():
            if not torch.equal(value, before[key]):
                return f"its forward changes '{_path(key)}'"
        for node in self._nodes():
            if torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ()):
                return f"{_where(node)} draws random numbers"
        return "its forward keeps something from call to call, or draws random numbers"

    def why_among(self) -> str:
        """Where a picture among others begins to be computed differently."""
        try:
            few, many = (functional_graph(self.name, self.module, self.size, batch) for batch in (1, _BATCH))
        except SplitError:
            return "some operation mixes pictures"
        alone, among = _values(few, self.picture), _values(many, self.pictures)
        for node in few.graph.nodes:
            one, other = alone.get(node.name), among.get(node.name)
            if one is None or other is None or one.shape[1:] != other.shape[1:] or len(other) != _BATCH:
                continue
            if not self.is_near(other[_PLACE : _PLACE + 1], one):
                if "norm" in str(node.target):
                    return f"{_where(node)} takes the statistics of the batch"
                return f"{_where(node)} mixes pictures"
        return "some operation mixes pictures"

    def _nodes(self) -> list[fx.Node]:
        try:
            return list(functional_graph(self.name, self.module, self.size, 1).graph.nodes)
        except SplitError:
            return []


def _values(graph: fx.GraphModule, pictures: Tensor) -> dict[str, Tensor]:
    """The tensors of all operations that hang on the pictures."""
    values = dict[str, Tensor]()

    class Keeping(fx.Interpreter):
        def run_node(self, n: fx.Node) -> object:
            value = super().run_node(n)
            if n.op == "call_function":
                first = value[0] if isinstance(value, tuple | list) else value
                if isinstance(first, Tensor) and first.dim():
                    values[n.name] = first
            return value

    Keeping(graph).run(pictures)
    return values


def _is_close(one: Tensor, other: Tensor, tolerance: float) -> bool:
    if one.shape != other.shape:
        return False
    one, other = one.double(), other.double()
    finite = other[torch.isfinite(other)].abs()
    largest = float(finite.max()) if finite.numel() else 0.0
    return bool(torch.isclose(one, other, rtol=0.0, atol=tolerance * largest, equal_nan=True).all())


def _where(node: fx.Node) -> str:
    paths = [_path(key.removeprefix("L__self__").removeprefix(".")) for key in node.meta.get("nn_module_stack", {})]
    operation = str(node.target).removeprefix("aten.").rsplit(".", 1)[0]
    operation = "batch_norm" if "batch_norm" in operation else operation
    return f"'{paths[-1]}' ({operation})" if paths and paths[-1] else f"its forward ({operation})"


def _path(key: str) -> str:
    """A name inside the user's network, which lies inside a PictureModel."""
    return key.removeprefix("network").removeprefix(".")


def _shape(answers: object) -> str:
    if not isinstance(answers, Tensor):
        return f"a {type(answers).__name__}"
    return "x".join(map(str, answers.shape)) or "a single number"
