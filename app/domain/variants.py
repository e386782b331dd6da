"""Variants: the ways in which one model class can be computed. A registered version has one of them.

`auto` is what a version gets that asks for nothing: as the class loads it and, on a CUDA device that
computes bf16 (capability 8 or more), under bf16 autocast.
"""

from enum import StrEnum


class Variant(StrEnum):
    """Engine and precision."""

    AUTO = "auto"
    FP32 = "fp32"
    """As the class loads it, on every device: what the others are compared with."""
    BF16 = "bf16"
    COMPILE = "compile"
    COMPILE_BF16 = "compile-bf16"
    INT8 = "int8"
    ONNX = "onnx"
    ONNX_INT8 = "onnx-int8"


DEFAULT_VARIANT = Variant.AUTO.value
