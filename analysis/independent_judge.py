"""What another trained network sees in rebuilt pictures: PSNR says little of what can still be recognised."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the name that everybody knows it by

from analysis.attacks.maps import resize
from harness.errors import ModelError
from harness.networks.models import LITE_NAMES, Model, load_model
from harness.networks.torch_head import BATCH

# The shorter side that pictures are resized to, in pixels: what these networks were trained at, within a fifth. Small
# pictures are enlarged by no more than a factor, for beyond it they only blur and take longer.
SIDE = 224
MOST_ENLARGED = 2.0
_CLASSIFIER = "network._fc"


@dataclass(frozen=True)
class Recognition:
    """What an independent judge says of rebuilt pictures.

    Attributes:
        judge: its name.
        judge_top1: per picture: does it see the same class as in the original?
        judge_similarity: per picture: cosine of its features (what its classifier reads) with the original's.
    """

    judge: str
    judge_top1: tuple[bool, ...]
    judge_similarity: tuple[float, ...]


class IndependentJudge:
    """A trained network that is not the attacked one, and what it makes of the held-out pictures.

    Args:
        model: one of the efficientnet_lite family.
        original: the held-out pictures, N x 3 x H x W on [0, 1].
    """

    def __init__(self, model: Model, original: Tensor) -> None:
        self._model = model
        self._classes, self._features = self._seen(original)

    @classmethod
    def of(cls, attacked: str, original: Tensor) -> IndependentJudge | None:
        """Who judges the attacks on the network of that name: lite1 those on lite0, lite0 all others.

        Where its weights are not installed, the next one of that family; None where there is none.
        """
        for name in LITE_NAMES:
            if name != attacked and (model := _load(name, (original.shape[2], original.shape[3]))):
                return cls(model, original)
        return None

    def recognition(self, rebuilt: Tensor) -> Recognition:
        """Judge pictures, in the order of the held-out ones."""
        classes, features = self._seen(rebuilt)
        alike = F.cosine_similarity(features, self._features)
        return Recognition(self._model.name, tuple((classes == self._classes).tolist()), tuple(alike.tolist()))

    @torch.no_grad()
    def _seen(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """The class of each picture, and its features, N x C."""
        features: list[Tensor] = []
        classifier = self._model.module.get_submodule(_CLASSIFIER)
        hook = classifier.register_forward_pre_hook(lambda _, given: features.append(given[0]))
        resized = resize(pictures, self._model.input_size).clamp(0, 1)
        parts = torch.split(resized.contiguous(memory_format=torch.channels_last), BATCH)
        with hook:
            logits = torch.cat([self._model.module(part) for part in parts])
        return logits.argmax(1), torch.cat(features)


def _load(name: str, size: tuple[int, int]) -> Model | None:
    """The network with its trained weights, for pictures of this size; None where they are not installed."""
    scale = min(MOST_ENLARGED, SIDE / min(size))
    with torch.random.fork_rng(devices=[]):  # building a network seeds torch's random numbers
        try:
            return load_model(name, weights="pretrained", input_size=(round(scale * size[0]), round(scale * size[1])))
        except ModelError:
            return None
