"""Variants: the ways in which one model class can be computed. A registered version has one of them.

`auto` is what a version gets that asks for nothing: as the class loads it and, on a CUDA device that
computes bf16 (capability 8 or more), in bf16.
"""

from enum import StrEnum


class Variant(StrEnum):
    """Engine and precision."""

    AUTO = "auto"
    FP32 = "fp32"
    """As the class loads it, on every device: what the others are compared with."""
    BF16 = "bf16"
    """Autocast to bf16, the weights of linear and convolution layers kept in it."""
    COMPILE = "compile"
    """torch.compile with dynamic shapes."""
    COMPILE_BF16 = "compile-bf16"
    INT8 = "int8"
    """Linear layers with 8-bit weights, activations quantized as they come. CPU only."""
    ONNX = "onnx"
    """Exported, and computed by ONNX Runtime. CPU only."""
    ONNX_INT8 = "onnx-int8"
    """The export with 8-bit weights in linear layers, a scale for each output channel."""


DEFAULT_VARIANT = Variant.AUTO.value
TUNABLE = (Variant.BF16, Variant.COMPILE, Variant.COMPILE_BF16, Variant.INT8, Variant.ONNX, Variant.ONNX_INT8)
"""What `headracectl models tune` tries."""


def tuned_version(version: str, variant: str) -> str:
    """The name of the version that is `version` computed as `variant`: `1-bf16`."""
    return f"{version}-{variant}"
