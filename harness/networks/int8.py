"""int8 networks: PT2E post-training quantisation, done once per network, cut at any split point afterwards."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from typing import ClassVar

import torch
from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
    XNNPACKQuantizer,
    get_symmetric_quantization_config,
)
from executorch.backends.xnnpack.quantizer.xnnpack_quantizer_utils import (
    get_bias_qspec,
    get_input_act_qspec,
    get_output_act_qspec,
    get_weight_qspec,
)
from torch import Tensor, fx
from torchao.quantization.pt2e import quantize_pt2e
from torchao.quantization.pt2e.observer import PerChannelMinMaxObserver
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
from torchao.quantization.pt2e.quantizer import QuantizationAnnotation
from torchao.quantization.pt2e.quantizer.quantizer import Q_ANNOTATION_KEY

from device_runner.raised import class_and_message
from harness.codecs import Int8
from harness.errors import ExportError
from harness.networks.constants import compute_weights, separate_constants
from harness.networks.graph import op_name
from harness.networks.splits import Cut, CuttableGraph, Network, SplitPoint

CALIBRATION_BATCH = 16
# A kernel adds the bias as int32 in steps of input scale x weight scale. A channel that training has switched off has
# weights of (almost) nothing, so a step of nothing, and its bias overflows: the channel comes out bright in place of
# dark. A floor of 2^-18 holds biases up to 64 where the input's scale is 1/128, and costs no weight above 5e-4 a level.
WEIGHT_SCALE_FLOOR = 2.0**-18
CALIBRATION_PICTURES = 64


class ClampQuantizer(XNNPACKQuantizer):  # type: ignore[misc]
    """XNNPACK's quantiser, and ReLU6 behind a convolution gets the range of what it lets through.

    The stock quantiser takes the range from before the clamp, so that of 256 steps a ReLU6 network keeps some 15.
    XNNPACK itself fuses convolution and clamp, as it does with ReLU. Patterns of networks that are trained with fake
    quantisation are left out: they take 2 s to trace, three times a network, and there are none in a calibrated one.
    """

    SUPPORTED_PATTERNS: ClassVar = [one for one in XNNPACKQuantizer.SUPPORTED_PATTERNS if not one.is_qat]

    def annotate(self, model: fx.GraphModule) -> fx.GraphModule:
        """Mark which values are quantised, and how."""
        for clamp in model.graph.nodes:
            convolution = clamp.args[0] if op_name(clamp) == "hardtanh" else None
            if convolution is not None and op_name(convolution) == "conv2d" and len(convolution.users) == 1:
                self._annotate_pair(convolution, clamp)
        annotated: fx.GraphModule = super().annotate(model)
        return annotated

    def _annotate_pair(self, convolution: fx.Node, clamp: fx.Node) -> None:
        config = self.global_config
        specs = (get_input_act_qspec(config), get_weight_qspec(config), get_bias_qspec(config))
        inputs = {node: spec for node, spec in zip(convolution.args, specs, strict=False) if isinstance(node, fx.Node)}
        convolution.meta[Q_ANNOTATION_KEY] = QuantizationAnnotation(input_qspec_map=inputs, _annotated=True)
        clamp.meta[Q_ANNOTATION_KEY] = QuantizationAnnotation(
            output_qspec=get_output_act_qspec(config), _annotated=True
        )


def floor_weight_scales(prepared: fx.GraphModule) -> None:
    """Let no channel's weights have a scale below the floor, in place."""
    for observer in prepared.modules():
        if isinstance(observer, PerChannelMinMaxObserver):
            observer.eps.fill_(WEIGHT_SCALE_FLOOR)


@contextmanager
def _without_patterns_of_training() -> Iterator[None]:
    """Leave out what torchao looks for in networks that were trained with fake quantisation.

    It traces 96 patterns for that, 15 s for each network with a batch norm that no convolution precedes; here, where
    networks are calibrated and not trained, none of them can be found.
    """
    theirs = quantize_pt2e._fold_conv_bn_qat
    quantize_pt2e._fold_conv_bn_qat = lambda graph: graph
    try:
        yield
    finally:
        quantize_pt2e._fold_conv_bn_qat = theirs


class QuantizedNetwork(CuttableGraph):
    """The int8 twin of a network: XNNPACK's symmetric scheme, weights per channel, calibrated on pictures.

    Args:
        network: the float network.
        pictures: calibration pictures, N x 3 x H x W on [0, 1]; the first 64 are used.
    """

    def __init__(self, network: Network, pictures: Tensor) -> None:
        self.network = network
        self._pictures = pictures[:CALIBRATION_PICTURES]
        self._graphs: dict[int, fx.GraphModule] = {}
        self._failure: ExportError | None = None

    @cached_property
    def _observed(self) -> dict[str, Tensor]:
        batch = min(CALIBRATION_BATCH, len(self._pictures))
        prepared = self._prepare(batch)
        with torch.no_grad():
            for part in torch.split(self._pictures, batch):
                if len(part) == batch:
                    prepared(part)
        return dict(prepared.state_dict())

    def _prepare(self, batch: int) -> fx.GraphModule:
        config = get_symmetric_quantization_config(is_per_channel=True)
        graph = copy.deepcopy(self.network.graph(batch))
        compute_weights(graph)
        separate_constants(graph)
        prepared: fx.GraphModule = prepare_pt2e(graph, ClampQuantizer().set_global(config))
        return prepared

    def graph(self, batch: int) -> fx.GraphModule:
        """The converted graph for a fixed batch size.

        Raises:
            ExportError: the quantiser does not take this network; it is not asked again.
        """
        if self._failure is not None:
            raise self._failure
        if batch not in self._graphs:
            try:
                self._graphs[batch] = self._convert(batch)
            except Exception as exc:  # the quantiser documents no base of what it raises
                self._failure = ExportError(
                    f"{self.network.model.name} cannot be quantised: {class_and_message(exc)}",
                    remedy="use --precision fp32",
                )
                raise self._failure from exc
        return self._graphs[batch]

    def _convert(self, batch: int) -> fx.GraphModule:
        observed = self._observed
        prepared = self._prepare(batch)
        prepared.load_state_dict(observed)
        floor_weight_scales(prepared)
        with _without_patterns_of_training():
            converted: fx.GraphModule = convert_pt2e(prepared)
        converted.recompile()
        return converted

    def cut(self, point: SplitPoint) -> Cut:
        """Where `point` lies in the converted graph.

        Raises:
            ExportError: the point lies inside what becomes one int8 kernel, another type would travel, or there is no
                converted graph.
        """
        if not point.index:
            return self.network.cut(point)
        nodes = {n.name: n for n in self.graph(1).graph.nodes}
        node = nodes.get(point.node) or nodes.get(self._convolution_before(point))
        if node is None:
            raise _inside_a_kernel(point)
        for user in node.users:
            if op_name(user) == "quantize_per_tensor":
                scale, zero_point = user.args[1:3]
                return Cut(user.name, Int8(scale=float(scale), zero_point=int(zero_point)))
        ends_here = any(user.op == "output" for user in node.users)
        if op_name(node) in ("conv2d", "linear", "add") and not ends_here:
            raise _inside_a_kernel(point)
        return replace(self.network.cut(point), node=node.name)  # what is not int8 here is what travels there

    def _convolution_before(self, point: SplitPoint) -> str:
        """Batch norm is folded into the convolution before it: there its value is the convolution's."""
        node = next(n for n in self.network.graph(1).graph.nodes if n.name == point.node)
        while node.all_input_nodes and op_name(node) == "batch_norm":
            node = node.all_input_nodes[0]
        return str(node.name)


def _inside_a_kernel(point: SplitPoint) -> ExportError:
    return ExportError(f"split {point.index} ({point.name}) lies inside one int8 kernel: no tensor is there to ship")
