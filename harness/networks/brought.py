"""Networks that users bring: made by their factories, taken out of wrappers, tried once, their weights made plain."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from itertools import chain

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune, remove_spectral_norm, remove_weight_norm
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from device_runner.raised import in_one_line
from harness.errors import ModelError
from harness.networks.process_state import kept

_SEE_ALL = "mend that line; bench --debug shows the whole traceback"
_OTHER_TYPES = re.compile(r"dtype|scalar type|[Ii]nput type|Half|Double|BFloat16")
_OTHER_SIZES = re.compile(r"size|shape|dimension|channels|view", re.IGNORECASE)


def make_network(name: str, factory: Callable[[], object], size: tuple[int, int]) -> nn.Module:
    """The network that a factory gives, in eval mode, on the processor, with all of its layers materialised.

    What factory and forward do to the process is undone.

    Args:
        name: what messages call the network.
        factory: the user's own code.
        size: height and width of its pictures, in pixels.

    Raises:
        ModelError: the factory raises something, gives no network, or one that does not take pictures.
    """
    with kept():
        try:
            made = factory()
            network = _unwrapped(made).eval().cpu() if isinstance(made, nn.Module) and not _on_meta(made) else made
        except KeyboardInterrupt:
            raise
        except BaseException as exc:  # the factory is the user's own code, and may raise or exit as it likes
            raise ModelError(f"{name} cannot be built: {in_one_line(exc)}", remedy=_remedy(exc)) from exc
    if not isinstance(network, nn.Module):
        raise ModelError(
            f"{name} cannot be built: it gave a {type(network).__name__}, not an nn.Module",
            remedy="name a function or class that gives an nn.Module",
        )
    _refuse_unusable(name, network)
    with kept():
        torch.manual_seed(torch.initial_seed() + 1)  # lazy layers get other random weights than those made before
        _check_answer(name, _first_call(name, network, size))
    return network


def _remedy(exc: BaseException) -> str:
    if isinstance(exc, ModuleNotFoundError) and exc.name:
        return f"install {exc.name}"
    if isinstance(exc, FileNotFoundError):
        return "relative paths begin in the folder where bench was started"
    if isinstance(exc, TypeError) and "required" in str(exc) and "argument" in str(exc):
        return "a factory is called without arguments: write a function that gives the network"
    return _SEE_ALL


def _unwrapped(network: nn.Module) -> nn.Module:
    """The network without DataParallel and torch.compile, at any depth."""
    if isinstance(network, nn.DataParallel | nn.parallel.DistributedDataParallel):
        return _unwrapped(network.module)
    if isinstance(network, torch.jit.ScriptModule):
        return network  # refused later, with its place
    if isinstance(compiled := getattr(network, "_orig_mod", None), nn.Module):
        return _unwrapped(compiled)
    network._compiled_call_impl = None
    for name, child in network.named_children():
        if (bare := _unwrapped(child)) is not child:
            setattr(network, name, bare)
    for name, value in [*network.named_parameters(recurse=False), *network.named_buffers(recurse=False)]:
        if not _is_lazy(value) and value.is_inference():  # made under inference_mode: no attack could differentiate
            setattr(network, name, nn.Parameter(value.clone()) if isinstance(value, nn.Parameter) else value.clone())
    return network


def _on_meta(network: nn.Module) -> str | None:
    tensors = chain(network.named_parameters(), network.named_buffers())
    return next((key for key, value in tensors if value.is_meta and not _is_lazy(value)), None)


def _is_lazy(value: Tensor) -> bool:
    return isinstance(value, nn.parameter.UninitializedParameter | nn.parameter.UninitializedBuffer)


def _refuse_unusable(name: str, network: nn.Module) -> None:
    if key := _on_meta(network):
        raise ModelError(
            f"{name}: its weights are on the meta device: '{key}' has no numbers",
            remedy="have the factory load them, or network.to_empty(device='cpu') and fill it",
        )
    for path, module in network.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            raise ModelError(
                f"{name} is scripted{f' at {path!r}' if path else ''}",
                remedy="have the factory give the module as it was before torch.jit.script or trace",
            )
    try:
        inspect.signature(network.forward).bind(None)
    except TypeError as exc:
        asked = re.search(r"missing a required (?:keyword-only )?argument: '(\w+)'", str(exc))
        what = f"needs an argument `{asked[1]}`" if asked else "takes no picture"
        raise ModelError(
            f"{name} {what}", remedy="wrap it so that its forward takes the pictures and nothing else"
        ) from exc
    except ValueError:  # a forward that cannot be looked into: the first call tells
        pass


def _first_call(name: str, network: nn.Module, size: tuple[int, int]) -> object:
    picture = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0))
    try:
        with torch.no_grad():
            return network(picture)
    except KeyboardInterrupt:
        raise
    except BaseException as exc:  # the forward is the user's own code
        kinds = sorted({str(p.dtype).removeprefix("torch.") for p in network.parameters() if p.is_floating_point()})
        if kinds not in ([], ["float32"]) and _OTHER_TYPES.search(str(exc)):
            raise ModelError(
                f"{name}: its weights are {' and '.join(kinds)}, pictures are float32: {in_one_line(exc)}",
                remedy="have the factory give network.float()",
            ) from exc
        is_size = isinstance(exc, RuntimeError | ValueError | AssertionError) and _OTHER_SIZES.search(str(exc))
        raise ModelError(
            f"{name} does not take {size[0]}x{size[1]} pictures: {in_one_line(exc)}",
            remedy="give the size that it was made for with --input-size" if is_size else _SEE_ALL,
        ) from exc


def _check_answer(name: str, answer: object) -> None:
    if not isinstance(answer, Tensor):
        raise ModelError(f"{name} gives {_kind(answer)}", remedy="wrap it so that it returns its logits alone")
    if answer.is_meta:
        raise ModelError(f"{name} computes on the meta device", remedy="keep all of its tensors on the processor")
    if not answer.is_floating_point():
        kind = str(answer.dtype).removeprefix("torch.")
        raise ModelError(f"{name} gives {kind} numbers", remedy="have it return its logits, as they are before argmax")


def _kind(answer: object) -> str:
    kind = type(answer).__name__
    if isinstance(answer, Mapping):
        return f"a {kind} ({', '.join(map(str, answer))})"
    if dataclasses.is_dataclass(answer):
        return f"a {kind} ({', '.join(field.name for field in dataclasses.fields(answer))})"
    if isinstance(answer, tuple) and hasattr(answer, "_fields"):
        return f"a {kind} ({', '.join(answer._fields)})"
    return f"a {kind} of {len(answer)}" if isinstance(answer, tuple | list) else f"a {kind}"


def make_plain(network: nn.Module) -> None:
    """Put in place of weights that are computed at every call what is computed: pruning, weight and spectral norm."""
    for module in list(network.modules()):
        if parametrize.is_parametrized(module):
            for name in list(module.parametrizations):  # type: ignore[arg-type]
                with suppress(NotImplementedError, ValueError, RuntimeError):  # some cannot: they stay as they are
                    parametrize.remove_parametrizations(module, name, leave_parametrized=True)
        for hook in list(module._forward_pre_hooks.values()):
            if isinstance(hook, WeightNorm):
                remove_weight_norm(module, hook.name)
            elif isinstance(hook, SpectralNorm):
                remove_spectral_norm(module, hook.name)
            elif isinstance(hook, prune.BasePruningMethod):
                prune.remove(module, hook._tensor_name)  # type: ignore[no-untyped-call]
