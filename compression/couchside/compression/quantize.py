"""Float graphs → int8 graphs, with the recipe that each runtime computes well and correctly.

onnxruntime: dynamic int8 weights of MatMul, Gemm and the embedding's Gather, which for
transformers beats static int8 on the CPU. LiteRT: dynamic int8 weights per channel. The LiteRT
file is *silently wrong* on tflite-runtime 2.14, which is why every Bundle carries golden vectors.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path


def quantize_onnx(source: Path, target: Path) -> None:
    """Write ``source`` with int8 weights to ``target``."""
    from onnxruntime.quantization import QuantType, quantize_dynamic  # noqa: PLC0415 - lab only
    from onnxruntime.quantization.shape_inference import quant_pre_process  # noqa: PLC0415

    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(source, prepared, skip_symbolic_shape=True)
        quantize_dynamic(
            prepared,
            target,
            op_types_to_quantize=["MatMul", "Gemm", "Gather"],
            per_channel=False,
            weight_type=QuantType.QInt8,
        )


def quantize_tflite(source: Path, target: Path) -> None:
    """Write ``source`` with int8 weights and float activations to ``target``."""
    from ai_edge_quantizer import quantizer, recipe  # noqa: PLC0415 - lab only

    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        made = Path(folder) / "quantized.tflite"
        tool = quantizer.Quantizer(str(source), recipe.dynamic_wi8_afp32())
        tool.quantize().export_model(str(made))
        shutil.move(made, target)
