"""Tail engines: what finishes the network on the workstation, one file each.

To add one: a subclass of `harness.tails.base.Engine` in a file of its own, and a line here;
tests/contract/test_engines.py then holds it to what every engine promises.
"""

from device_runner.registry import Registry
from harness.tails.base import Engine

ENGINES: Registry[Engine] = Registry(
    "tail engine",
    "harness.tails.base:Engine",
    {
        "torch": "harness.tails.torch_engine:TorchEngine",
        "executorch": "harness.tails.executorch_engine:ExecutorchEngine",
        "cuda": "harness.tails.accelerator:CudaEngine",
        "mps": "harness.tails.accelerator:MpsEngine",
    },
)

__all__ = ["ENGINES", "Engine"]
