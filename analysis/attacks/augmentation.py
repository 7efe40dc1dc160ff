"""Data augmentation: ever new pictures made of the receiver's own, and what the head answers to them."""

from __future__ import annotations

import torch
from torch import Tensor

from analysis.attacks.base import HeadFunction, Pairs
from analysis.attacks.maps import resize

# Crops keep at least this share of a picture's sides.
_SMALLEST_CROP = 0.6
# Half the pictures get their colours swapped, a third become negatives; all get another gain and gamma.
_SWAPPED, _INVERTED = 0.5, 1 / 3
_GAIN, _GAMMA = 0.2, 0.4


class Augmentation:
    """Draws crops, mirrors and colours of photographs, and asks the head for their activations.

    A dozen photographs teach a decoder little; their variations, which cost a query each, several times as much.

    Args:
        head: pictures -> activations.
        own: whose photographs are cropped; where it has none, its pictures are. Close this in the end.
    """

    def __init__(self, head: HeadFunction, own: Pairs) -> None:
        self._head, self._device = head, own.pictures.device
        self._crops = own.photographs.crops() if own.photographs else CropsOfCrops(own.pictures.cpu())

    @torch.no_grad()
    def draw(self, count: int) -> tuple[Tensor, Tensor]:
        """`count` pictures and their activations; random numbers follow from torch's global generator."""
        with torch.device("cpu"):  # anywhere the same draws
            pictures = _recoloured(self._crops.draw(count)).to(self._device)
        return pictures, self._head(pictures)

    def close(self) -> None:
        """Draw no more."""
        self._crops.close()


class CropsOfCrops:
    """Draws crops of pictures (N x 3 x H x W), enlarged to their size: where no photographs are known."""

    def __init__(self, pictures: Tensor) -> None:
        self._pictures = pictures

    def draw(self, count: int) -> Tensor:
        """As `FreshCrops.draw`; random numbers come from torch's global generator."""
        chosen = self._pictures[torch.randint(len(self._pictures), (count,))]
        return torch.cat([_crop(picture[None]) for picture in chosen])

    def close(self) -> None:
        """Nothing is to be closed."""


def _crop(picture: Tensor) -> Tensor:
    """A random crop of 1 x 3 x H x W, mirrored or not, at the same size."""
    height, width = picture.shape[2:]
    share = float(torch.empty(1).uniform_(_SMALLEST_CROP, 1))
    tall, wide = max(1, int(share * height)), max(1, int(share * width))
    top, left = int(torch.randint(height - tall + 1, (1,))), int(torch.randint(width - wide + 1, (1,)))
    crop = resize(picture[:, :, top : top + tall, left : left + wide], (height, width)).clamp(0, 1)
    return crop.flip(3) if torch.rand(1) < 0.5 else crop


def _recoloured(pictures: Tensor) -> Tensor:
    count = len(pictures)
    order = torch.stack([torch.randperm(3) for _ in range(count)])[:, :, None, None].expand_as(pictures)
    swapped = torch.rand(count, 1, 1, 1) < _SWAPPED
    pictures = torch.where(swapped, torch.gather(pictures, 1, order), pictures)
    gamma = torch.empty(count, 1, 1, 1).uniform_(-_GAMMA, _GAMMA).exp()
    gain = torch.empty(count, 3, 1, 1).uniform_(1 - _GAIN, 1 + _GAIN)
    pictures = (pictures**gamma * gain).clamp(0, 1)
    return torch.where(torch.rand(count, 1, 1, 1) < _INVERTED, 1 - pictures, pictures)
