"""Files of weights -> state dicts -> networks; nothing in such a file is ever run."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.serialization import get_unsafe_globals_in_checkpoint

from device_runner.raised import message_or_class
from device_runner.said import last_line
from harness.errors import ModelError

StateDict = Mapping[str, Tensor]
# What training scripts call the weights inside their checkpoints; the first one that is there is taken.
_WRAPPERS = (
    *("state_dict", "model_state_dict", "model_state", "model", "net", "network", "module", "weights", "params"),
    *("model_ema", "state_dict_ema", "ema_state_dict", "ema", "params_ema", "checkpoint"),
)
# What DataParallel and torch.compile put into the names of the modules that they wrap.
_WRAPPING_MODULES = {"module", "_orig_mod"}
_AVERAGE_COUNT = "n_averaged"  # of torch.optim.swa_utils.AveragedModel
_SAVE_WEIGHTS = "save model.state_dict(), best as safetensors, and pass that file"
_ANOTHER_FILE = "name the file of this network"


def read_weights(path: Path) -> tuple[StateDict, str]:
    """A state dict from a safetensors file or a PyTorch one, whatever its suffix; never runs code from the file.

    Returns:
        The state dict, and where in the file it lay: "state_dict", or "" where the file holds nothing else.

    Raises:
        ModelError: no such file, or it holds anything but weights.
    """
    if not path.is_file():
        what = f"{path} is a folder" if path.is_dir() else f"no weights file {path}"
        raise ModelError(what, remedy="check the path; or use --weights auto|pretrained|random")
    try:
        with path.open("rb") as file:
            start = file.read(512)
    except OSError as exc:
        raise ModelError(f"{path} cannot be read: {exc.strerror}", remedy="check its permissions") from exc
    _refuse_other_files(path, start)
    if start[8:9] == b"{":  # eight bytes of length, then JSON
        try:
            return load_file(path), ""
        except (SafetensorError, OSError, ValueError) as exc:
            raise _damaged(path, "safetensors", exc) from exc
    return _unwrapped(path, _read_pickle(path))


def _refuse_other_files(path: Path, start: bytes) -> None:
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not start:
        raise ModelError(f"{path} is empty", remedy="fetch or save it again")
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        raise ModelError(f"{path} is a web page, not weights", remedy="download the file itself, not the page about it")
    if text.startswith(b"version https://git-lfs"):
        raise ModelError(f"{path} is a pointer of Git LFS, not the weights", remedy="run: git lfs pull")
    if text.startswith((b"{", b"[")):
        raise ModelError(f"{path} is JSON text, not weights", remedy="name the file that holds the tensors")
    if start.startswith(b"\x89HDF"):
        raise ModelError(f"{path} is an HDF5 (Keras) file", remedy="convert it to a state dict of PyTorch")


def _read_pickle(path: Path) -> object:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of other pickle protocols: the error below says what to do
            with path.open("rb") as file:  # by its path, torch would go by the suffix
                return torch.load(file, map_location="cpu", weights_only=True)
    except UnpicklingError as exc:
        if any(name.startswith("torch.nn.modules.") for name in _classes(path)):
            raise ModelError(
                f"{path} holds a whole pickled network; nothing in it was run", remedy=_SAVE_WEIGHTS
            ) from exc
        raise ModelError(
            f"{path} holds more than tensors or is damaged, and nothing in it was run", remedy=_SAVE_WEIGHTS
        ) from exc
    except RuntimeError as exc:
        if "TorchScript" in str(exc):
            raise ModelError(
                f"{path} holds a TorchScript network; nothing in it was run", remedy=_SAVE_WEIGHTS
            ) from exc
        raise _damaged(path, "PyTorch", exc) from exc
    except (OSError, ValueError, EOFError, LookupError, AttributeError, TypeError, ArithmeticError) as exc:
        raise _damaged(path, "PyTorch", exc) from exc


def _classes(path: Path) -> list[str]:
    """The classes that a pickle would load, read without loading any."""
    try:
        return get_unsafe_globals_in_checkpoint(path)
    except Exception:  # torch documents no base of what it raises for a file that is none; it is refused anyhow
        return []


def _damaged(path: Path, kind: str, exc: Exception) -> ModelError:
    return ModelError(
        f"{path} is a damaged {kind} file, or none, and nothing in it was run: {message_or_class(exc)}",
        remedy="fetch or save it again",
    )


def _unwrapped(path: Path, content: object, where: str = "") -> tuple[StateDict, str]:
    if isinstance(content, Mapping) and content and all(isinstance(value, Tensor) for value in content.values()):
        if not all(isinstance(name, str) for name in content):
            raise ModelError(f"{path} holds tensors under other names than text", remedy=_SAVE_WEIGHTS)
        return content, where
    if isinstance(content, Mapping):
        for name in _WRAPPERS:
            if isinstance(content.get(name), Mapping):
                return _unwrapped(path, content[name], f"{where}.{name}".removeprefix("."))
        if "param_groups" in content:
            raise ModelError(f"{path} holds the state of an optimizer, not weights", remedy=_SAVE_WEIGHTS)
    raise ModelError(f"{path} does not hold a state dict but {_described(content)}", remedy=_SAVE_WEIGHTS)


def _described(content: object) -> str:
    if not isinstance(content, Mapping):
        return f"a {type(content).__name__}"
    if not content:
        return "nothing"
    named = [f"{key!r}: {type(v).__name__}"[:60] for key, v in content.items() if not isinstance(v, Tensor)]
    return f"{', '.join(named[:3])}{', ...' if len(named) > 3 else ''}"


@dataclass(frozen=True)
class _Fitted:
    """A state dict under the names of a network, and what was done to get there."""

    state: StateDict
    prefix: str
    surplus: int


def load_state(network: nn.Module, state: StateDict, label: str) -> list[str]:
    """Fill a network with weights, whatever wrapped it when they were saved.

    Args:
        label: where the weights come from, for people.

    Returns:
        What was done to make them fit, for people.

    Raises:
        ModelError: they do not fit, or are not numbers.
    """
    own = network.state_dict()
    fitted = _under_names_of(own, state)
    filled = OrderedDict(fitted.state)
    versions = getattr(state, "_metadata", None)  # of the modules' layouts
    if versions is None and any(key.endswith("num_batches_tracked") for key in fitted.state):
        versions = own._metadata  # type: ignore[attr-defined]  # safetensors keeps none: today's
    filled._metadata = versions  # type: ignore[attr-defined]
    _check_numbers(own, fitted.state, label)
    try:
        network.load_state_dict(filled)
    except (RuntimeError, ValueError) as exc:
        raise ModelError(
            f"the weights ({label}) do not fit the network: {_misfit(own, fitted.state, exc)}", remedy=_ANOTHER_FILE
        ) from exc
    return [*_notes(fitted), *_conversions(own, fitted.state)]


def _notes(fitted: _Fitted) -> Iterator[str]:
    if fitted.prefix:
        yield f"without the prefix '{fitted.prefix}'"
    if fitted.surplus:
        yield f"{fitted.surplus} tensors beside them left out"


def _conversions(own: StateDict, state: StateDict) -> Iterator[str]:
    kinds = {
        (value.dtype, own[key].dtype) for key, value in state.items() if key in own and value.dtype != own[key].dtype
    }
    for saved, wanted in sorted(kinds, key=str):
        yield f"converted from {_dtype(saved)} to {_dtype(wanted)}"


def _under_names_of(own: StateDict, state: StateDict) -> _Fitted:
    """Leave out of every name what wrapped the network, and the prefix that it had inside something larger."""
    if not own or own.keys() <= state.keys():
        return _Fitted(state, "", 0)
    bare = _without_wrappers(own, state)
    prefixes = {key.removesuffix(name) for name in own for key in bare if key == name or key.endswith(f".{name}")}
    best = max(sorted(prefixes), key=lambda prefix: sum(f"{prefix}{name}" in bare for name in own), default="")
    inside = {key.removeprefix(best): value for key, value in bare.items() if key.startswith(best)}
    surplus = bare.keys() - {f"{best}{name}" for name in inside} - {_AVERAGE_COUNT}
    cut = next((key.removesuffix(name) for name in inside for key in state if key.endswith(name)), "")
    return _Fitted({k: v for k, v in inside.items() if k != _AVERAGE_COUNT}, cut, len(surplus))


def _without_wrappers(own: StateDict, state: StateDict) -> StateDict:
    wrapping = _WRAPPING_MODULES - {part for name in own for part in name.split(".")}
    bare = {".".join(part for part in key.split(".") if part not in wrapping): value for key, value in state.items()}
    return bare if len(bare) == len(state) else state


def _check_numbers(own: StateDict, state: StateDict, label: str) -> None:
    for name, value in state.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            kind = "NaN" if bool(torch.isnan(value).any()) else "infinite numbers"
            raise ModelError(f"the weights ({label}) are broken: '{name}' holds {kind}", remedy="take an earlier file")
        if name in own and own[name].is_floating_point() and not value.is_floating_point():
            raise ModelError(
                f"the weights ({label}) do not fit the network: '{name}' is {_dtype(value.dtype)} in the file, "
                f"{_dtype(own[name].dtype)} in the network",
                remedy="save the weights before they are quantised",
            )


def _misfit(own: StateDict, state: StateDict, exc: Exception) -> str:
    """What does not fit, by name: shapes first, then what is missing, then what is too much."""
    for name, value in state.items():
        if name in own and value.shape != own[name].shape:
            saved, wanted = tuple(value.shape), tuple(own[name].shape)
            if saved[1:] == wanted[1:] and saved and wanted:
                return f"'{name}': the file has {saved[0]} rows, the network {wanted[0]}"
            return f"'{name}' is {_shape(saved)} in the file, {_shape(wanted)} in the network"
    for those, what in (
        (own.keys() - state.keys(), "not in the file"),
        (state.keys() - own.keys(), "in the file only"),
    ):
        names = [name for name in (*own, *state) if name in those and not name.endswith("num_batches_tracked")]
        if names:
            return f"'{names[0]}'{f' and {len(names) - 1} others' if len(names) > 1 else ''}: {what}"
    return last_line(str(exc))[:200]


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "a single number"


def _dtype(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
