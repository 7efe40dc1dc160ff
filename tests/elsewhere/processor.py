"""A processor that is not the CPU: it computes as the CPU does, and mixes with it as little as a GPU would.

Where no GPU is at hand, code that forgets to move a tensor fails here as it would there: operations on tensors of two
processors, `numpy()` of one that is elsewhere, and, where asked for, float64 (which mps does not know).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

_NAME = "elsewhere"
_MOVES = {"aten::_to_copy", "aten::copy_"}


@contextmanager
def elsewhere(*, float64: bool = True) -> Iterator[torch.device]:
    """The processor, which is there as long as the block runs; it may know no float64."""
    with _Processor(float64=float64):
        yield _device()


@cache
def _device() -> torch.device:
    backend_registration._setup_privateuseone_for_python_backend(_NAME)  # once a process
    # What torch.tensor(..., device=...) asks for behind the modes' back.
    _KERNELS.impl("empty_strided", _empty_strided, "PrivateUse1")  # type: ignore[no-untyped-call]
    _KERNELS.impl("_copy_from", _copy_from, "PrivateUse1")  # type: ignore[no-untyped-call]
    return torch.device(_NAME, 0)


_KERNELS = torch.library.Library("aten", "IMPL")  # type: ignore[no-untyped-call]


def _empty_strided(size: Sequence[int], stride: Sequence[int], *, dtype: torch.dtype, **_: Any) -> Tensor:
    return _Elsewhere(torch.empty_strided(size, stride, dtype=dtype, device="cpu"))


def _copy_from(source: Tensor, target: Tensor, _non_blocking: bool = False) -> Tensor:
    source, target = (one.own if isinstance(one, _Elsewhere) else one for one in (source, target))
    return target.copy_(source)


class _Elsewhere(Tensor):
    """A tensor of that processor; `own` has its numbers."""

    own: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> _Elsewhere:
        made: _Elsewhere = torch.Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=_device(),
        )
        made.own = inner
        return made

    def tolist(self) -> Any:
        """As a GPU's tensor has it; a subclass has none."""
        return self.own.tolist()

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, operation: Any, _types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return _compute(operation, args, kwargs or {})


class _Processor(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees also what makes or moves a tensor."""

    def __init__(self, *, float64: bool) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._float64 = float64

    def __torch_dispatch__(
        self, operation: Any, _types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = _compute(operation, args, kwargs or {})
        made = [leaf for leaf in tree_leaves(result) if isinstance(leaf, _Elsewhere)]
        if not self._float64 and any(one.dtype == torch.float64 for one in made):
            raise TypeError(f"{operation.name()}: {_NAME} knows no float64")
        return result


def _compute(operation: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    name, tensors = operation.name(), [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    is_there = any(isinstance(one, _Elsewhere) for one in tensors)
    # As CUDA does: numbers (0 dimensions) and indices of the CPU may be mixed in.
    others = [one for one in tensors if not isinstance(one, _Elsewhere) and one.dim() > 0]
    if is_there and name not in _MOVES and any(one.dtype != torch.int64 or "index" not in name for one in others):
        raise RuntimeError(f"{name}: expected all tensors to be on the same device, not on {_NAME} and cpu")
    asked = kwargs.get("device")
    own_args, own_kwargs = tree_map_only(_Elsewhere, lambda one: one.own, (tuple(args), dict(kwargs)))
    if asked is not None:
        is_there, own_kwargs["device"] = torch.device(asked).type == _NAME, torch.device("cpu")
    result = operation(*own_args, **own_kwargs)
    if operation._schema.is_mutable and isinstance(result, Tensor):
        return args[0] if args else kwargs["out"]
    return tree_map_only(Tensor, _Elsewhere, result) if is_there else result
