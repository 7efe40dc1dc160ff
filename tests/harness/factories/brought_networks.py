"""Networks as users bring them: pure and impure ones, wrapped, cast, normed, and factories that fail."""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import warnings
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm


def classifier() -> nn.Sequential:
    """Give a small network that is always the same."""
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU(), nn.Conv2d(4, 8, 3, 2, 1), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)),
    )


class Wrapping(nn.Module):
    """Does as the classifier does."""

    def __init__(self) -> None:
        super().__init__()
        self.rest = classifier()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.rest(x)
        return out


# what decides the numbers, and lies in no state dict; $TINT makes it another network


class TintedBuffer(Wrapping):
    tint: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("tint", torch.full((3, 1, 1), float(os.environ.get("TINT", "0"))), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x + self.tint)


class TintedTensor(Wrapping):
    def __init__(self) -> None:
        super().__init__()
        self.tint = torch.full((3, 1, 1), float(os.environ.get("TINT", "0")))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x + self.tint)


class TintedNumber(Wrapping):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x + float(os.environ.get("TINT", "0")))


class TintedConstant(Wrapping):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x + torch.tensor([float(os.environ.get("TINT", "0"))]))


# answers that hang on more than the picture


class BatchStatistics(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8, track_running_stats=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.norm(self.conv(x))).mean((2, 3))


class DropsAlways(Wrapping):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(nn.functional.dropout(x, 0.1, training=True))


class Noisy(Wrapping):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x + 0.05 * torch.randn_like(x))


class NoisyByPython(Wrapping):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + random.random()


class NoisyByNumpy(Wrapping):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + float(np.random.rand())


class Counting(Wrapping):
    calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(x) * self.calls


class CountingInABuffer(Wrapping):
    calls: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(x) * self.calls


class MeanOfTheBatch(Wrapping):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x - x.mean())


class KeepsTheFirst(Wrapping):
    kept: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.kept is None:
            self.kept = super().forward(x)
        return self.kept.expand(len(x), -1)


class OneAtATime(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.leave = classifier()[:5], nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.leave(self.body(x).view(1, -1))
        return out


class AlwaysTraining(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten())

    def train(self, mode: bool = True) -> AlwaysTraining:
        del mode
        return super().train(True)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x)
        return out


# pure, whatever they look like


class CountsForItself(CountingInABuffer):
    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.rest(x)  # type: ignore[no-any-return]


class Casts(Wrapping):
    def forward(self, x: Tensor) -> Tensor:
        assert x.dim() == 4
        torch._assert(x.shape[1] == 3, "colours")
        x = x.float().to(x.device).to(memory_format=torch.channels_last).contiguous()
        return super().forward(x)


class HalfInside(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.enter, self.middle, self.leave = nn.Conv2d(3, 8, 3, 2), nn.Conv2d(8, 8, 3).half(), nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.middle(torch.relu(self.enter(x)).half())).float()
        out: Tensor = self.leave(x.mean((2, 3)))
        return out


class BfloatScalar(Wrapping):
    temperature: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("temperature", torch.tensor(1.5, dtype=torch.bfloat16))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) / self.temperature.float()


class Complex(Wrapping):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(torch.fft.ifft2(torch.fft.fft2(x)).real)


class ChangesThePicture(Wrapping):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.mul_(2).sub_(1))


class LooksOn(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)


class SharesAWeight(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.enter, self.one, self.other = nn.Conv2d(3, 8, 3, 2), nn.Linear(8, 8), nn.Linear(8, 8)
        self.other.weight = self.one.weight

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.other(torch.relu(self.one(torch.relu(self.enter(x)).mean((2, 3)))))
        return out


def channels_last() -> nn.Module:
    layers = nn.Conv2d(3, 1, 1), nn.Conv2d(1, 8, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    return nn.Sequential(*layers).to(memory_format=torch.channels_last)


def lazy() -> nn.Module:
    return nn.Sequential(nn.LazyConv2d(8, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(10))


def parallel() -> nn.Module:
    network = classifier()
    return nn.DataParallel(nn.Sequential(nn.DataParallel(network[:3]), *network[3:]))


def compiled() -> nn.Module:
    network = classifier()
    network[0].compile()
    whole: nn.Module = torch.compile(network)  # type: ignore[assignment]
    return whole


def inferred() -> nn.Module:
    with torch.inference_mode():
        return classifier()


# weights that are computed at every call


def pruned() -> nn.Module:
    network = classifier()
    prune.l1_unstructured(network[2], "weight", 0.5)  # type: ignore[no-untyped-call]
    prune.random_unstructured(network[2], "bias", 0.5)  # type: ignore[no-untyped-call]
    return network


def weight_normed() -> nn.Module:
    network = classifier()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # the older of two, and still common
        weight_norm(network[2])
    return network


def spectral_normed() -> nn.Module:
    network = classifier()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        spectral_norm(network[2])
    return network


def parametrized() -> nn.Module:
    network = classifier()
    parametrizations.weight_norm(network[2])
    parametrizations.spectral_norm(network[0])
    parametrizations.orthogonal(network[6])
    return network


# no networks, or no use


def needs_a_package() -> nn.Module:
    import a_package_that_nobody_has  # type: ignore[import-not-found]  # noqa: F401

    return classifier()


def reads_a_file() -> nn.Module:
    with open("weights/best.pt", "rb") as file:  # noqa: PTH123
        file.read()
    return classifier()


def reads_a_key() -> nn.Module:
    return nn.Linear(1, {"stem": 8}["backbone"])


def parses_arguments() -> nn.Module:
    argparse.ArgumentParser().parse_args(["--no-such-option"])
    return classifier()


def recurses() -> nn.Module:
    return recurses()


class OfItsOwn(BaseException):
    pass


def raises_its_own() -> nn.Module:
    raise OfItsOwn("out of \x1b[31msorts\nand more")


def interrupted() -> nn.Module:
    raise KeyboardInterrupt


def needs_arguments(width: int) -> nn.Module:
    return nn.Linear(width, width)


def messes() -> nn.Module:
    torch.set_default_dtype(torch.float64)
    torch.set_grad_enabled(False)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(5)
    random.seed(5)
    np.random.seed(5)
    os.chdir("/")
    sys.argv.append("--of-its-own")
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    torch.set_default_dtype(torch.float32)
    return classifier()


def double_by_default() -> nn.Module:
    torch.set_default_dtype(torch.float64)
    return classifier()


def half() -> nn.Module:
    return classifier().half()


def on_meta() -> nn.Module:
    torch.set_default_device("meta")
    return classifier()


def scripted() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit.script is deprecated, and still around
        return nn.Sequential(torch.jit.script(classifier()), nn.ReLU())


def for_28_pixels() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 28 * 28, 5))


class Masked(Wrapping):
    def forward(self, x: Tensor, mask: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(x) * mask


class GivesADict(Wrapping):
    def forward(self, x: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
        return {"out": super().forward(x), "aux": x}


@dataclass
class Output:
    logits: Tensor
    loss: float = 0.0


class GivesADataclass(Wrapping):
    def forward(self, x: Tensor) -> Output:  # type: ignore[override]
        return Output(super().forward(x))


class GivesClasses(Wrapping):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).argmax(1)


class GivesOneNumber(Wrapping):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).mean()


class ChoosesShapes(Wrapping):
    def forward(self, x: Tensor) -> Tensor:
        found = x.flatten(1).any(0).nonzero().flatten()
        return x.flatten(1)[:, found]


def with_learned_statistics() -> nn.Module:
    """Give a network whose batch norm has been trained."""
    norm = nn.BatchNorm2d(4)
    norm.running_mean, norm.running_var = torch.full((4,), 0.5), torch.full((4,), 9.0)
    return nn.Sequential(nn.Conv2d(3, 4, 3, 2), norm, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))


def prints() -> nn.Module:
    """Say something, as code that is being written does."""
    sys.stdout.write("shapes as expected\n")
    return classifier()
