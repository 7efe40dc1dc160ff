"""Networks whose answer to a picture depends on anything else are found before they are measured, with the reason."""

from __future__ import annotations

import pytest

from harness.errors import ModelError, SplitError
from harness.networks.models import load_model, model_names
from harness.networks.purity import check_purity
from harness.networks.splits import Network
from harness.pictures import load_pictures

SIZE = (32, 32)


@pytest.mark.parametrize(
    ("factory", "said"),
    [
        ("BatchStatistics", r"among sixteen others: 'norm' \(batch_norm\) takes the statistics of the batch"),
        ("MeanOfTheBatch", r"among sixteen others: its forward \(sub\) mixes pictures"),
        ("DropsAlways", r"computed again: its forward \(native_dropout\) draws random numbers"),
        ("Noisy", r"computed again: its forward \(randn_like\) draws random numbers"),
        ("NoisyByPython", "computed again: its forward keeps something from call to call, or draws random numbers"),
        ("NoisyByNumpy", "computed again: its forward keeps something from call to call, or draws random numbers"),
        ("Counting", "computed again: its forward keeps something from call to call"),
        ("CountingInABuffer", "computed again: its forward changes 'calls'"),
        ("AlwaysTraining", r"among sixteen others: 'body\.1' \(batch_norm\) takes the statistics of the batch"),
        ("OneAtATime", r"takes one picture alone, not sixteen at once: RuntimeError: .*brought_networks\.py:\d+"),
        ("GivesOneNumber", "takes one picture alone, not sixteen at once: it gives a single number"),
    ],
)
def test_an_answer_that_depends_on_more_than_the_picture_is_refused(factory: str, said: str) -> None:
    with pytest.raises(ModelError, match=said) as caught:
        load_model(f"brought_networks:{factory}", weights="random", input_size=SIZE)
    assert caught.value.remedy
    assert len(str(caught.value).splitlines()) == 1


def test_an_answer_that_was_kept_from_the_first_picture_is_refused() -> None:
    model = load_model("brought_networks:KeepsTheFirst", weights="random", input_size=SIZE)
    with pytest.raises(SplitError, match="does not depend on the picture"):
        Network(model)


@pytest.mark.parametrize("name", ["efficientnet_lite0", "resnet18", "mobilenet_v3_small", "shufflenet_v2_x0_5"])
def test_the_rounding_of_real_networks_is_no_impurity(name: str) -> None:
    check_purity(name, load_model(name, weights="auto" if "lite" in name else "random").module, (64, 64))


def test_a_deep_random_network_that_amplifies_rounding_is_pure() -> None:
    photographs = load_pictures("builtin", size=SIZE, train_count=32, held_out_count=2).train.as_float()
    model = load_model("efficientnet_b0", weights="random", input_size=SIZE, calibration=lambda _: photographs)
    check_purity("efficientnet_b0", model.module, SIZE)


@pytest.mark.slow
@pytest.mark.parametrize("name", model_names())
def test_every_named_network_is_pure(name: str) -> None:
    model = load_model(name, weights="random")
    check_purity(name, model.module, model.input_size)
