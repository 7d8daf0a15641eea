"""Trained towers → ONNX and TFLite files, float and int8.

    python -m couchside.compression.export RECIPE_JSON MODELS_NPZ FOLDER onnx|tflite GRAPH...

Run as a child process (see ``exporters``). It ends when its standard input does, that is, when its
parent was killed: it must not write into the next run's folder.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from couchside.compression.quantize import quantize_onnx, quantize_tflite
from couchside.compression.recipe import read_recipe_json
from couchside.compression.student import TextGraph, UserGraph, load_models
from couchside.compression.training_step import (
    INPUTS,
    OUTPUTS,
    sample_batch,
    trace,
    training_step,
)
from couchside.device.bundle import GraphRecord, PortRecord

if TYPE_CHECKING:
    from collections.abc import Sequence

    from couchside.compression.recipe import Recipe
    from couchside.compression.student import Models

Family = Literal["onnx", "tflite"]
OPSET = 18
"""17 silently becomes 18 for some graphs, 23 emits Attention, which two runtimes refuse."""
GRAPHS = ("text_encoder", "user_model", "training_step")
"""The graphs of a Bundle."""
SUFFIX = {"onnx": ".onnx", "tflite": ".tflite"}
QUANTIZED = ("text_encoder", "user_model")
"""The training step's weights are an input, so there is nothing in it to quantise."""


@dataclass(frozen=True)
class Exportable:
    """A module with valid inputs and the names at its border."""

    name: str
    module: nn.Module
    inputs: dict[str, Tensor]
    outputs: tuple[str, ...]

    def answers(self) -> dict[str, Tensor]:
        """What torch computes for the inputs."""
        with torch.no_grad():
            result = self.module(*self.inputs.values())
        values = result if isinstance(result, tuple) else (result,)
        return dict(zip(self.outputs, values, strict=True))


def exportables(recipe: Recipe, models: Models, graphs: Sequence[str] = GRAPHS) -> list[Exportable]:
    """The graphs of a Bundle with seeded sample inputs, which also become golden vectors."""
    generator = torch.Generator().manual_seed(7)
    shape = (recipe.text_batch, recipe.text_tokens)
    tokens = torch.randint(1, recipe.student_text.buckets, shape, generator=generator)
    tokens[:, recipe.text_tokens // 2 :] = 0
    step = training_step(recipe, models.ranker)
    batch = sample_batch(recipe, step)
    named = dict(zip(INPUTS, batch, strict=True))
    history = {
        "vectors": named["delta"][:1] * named["mask"][:1, :, None],
        "signals": named["signals"][:1],
        "gaps": named["gaps"][:1],
        "mask": named["mask"][:1],
    }
    user = UserGraph(models.ranker.tower).eval()
    # Not the shipped values: a golden vector must show a graph that ignores what is personal.
    wobble = 0.1 * torch.randn(user.shipped().shape, generator=generator)
    history["personal"] = user.shipped() + wobble
    text = {"tokens": tokens.to(torch.int32)}
    items = [
        Exportable("text_encoder", TextGraph(models.text).eval(), text, ("content",)),
        Exportable("user_model", user, history, ("user",)),
    ]
    if "training_step" in graphs:  # tracing takes longer than all the rest
        items.append(Exportable("training_step", trace(step, batch).eval(), named, OUTPUTS))
    return [item for item in items if item.name in graphs]


def graph_record(item: Exportable, family: Family, *, quantized: bool) -> GraphRecord:
    """The manifest's record of an exported graph; TFLite numbers its ports, ONNX names them."""

    def port(place: int, name: str, value: Tensor, prefix: str) -> PortRecord:
        return PortRecord(
            tensor=name if family == "onnx" else f"{prefix}_{place}",
            dtype="int32" if value.dtype == torch.int32 else "float32",
            shape=tuple(value.shape),
        )

    inputs = {n: port(i, n, v, "args") for i, (n, v) in enumerate(item.inputs.items())}
    outputs = {n: port(i, n, v, "output") for i, (n, v) in enumerate(item.answers().items())}
    return GraphRecord(
        file=item.name + SUFFIX[family],
        weights="int8" if quantized and item.name in QUANTIZED else "float32",
        inputs=inputs,
        outputs=outputs,
    )


def export_onnx(item: Exportable, path: Path) -> None:
    """Write the graph as ONNX, opset 18, weights inside, static shapes."""
    program = torch.onnx.export(
        item.module,
        tuple(item.inputs.values()),
        input_names=list(item.inputs),
        output_names=list(item.outputs),
        dynamo=True,
        external_data=False,
        optimize=True,
        opset_version=OPSET,
        verbose=False,
    )
    if program is None:
        raise RuntimeError(f"torch.onnx.export returned nothing for {item.name}")
    program.save(path)


def export_tflite(item: Exportable, path: Path) -> None:
    """Write the graph as TFLite with builtin operators only."""
    import litert_torch  # noqa: PLC0415 - two seconds and 300 MB that the ONNX child can spare

    litert_torch.convert(item.module, tuple(item.inputs.values())).export(str(path))


def export_family(items: Sequence[Exportable], family: Family, folder: Path) -> None:
    """Write every one of ``items`` as ``folder/float/NAME`` and ``folder/int8/NAME``."""
    export, quantize = {
        "onnx": (export_onnx, quantize_onnx),
        "tflite": (export_tflite, quantize_tflite),
    }[family]
    for kind in ("float", "int8"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    for item in items:
        name = item.name + SUFFIX[family]
        export(item, folder / "float" / name)
        if item.name in QUANTIZED:
            quantize(folder / "float" / name, folder / "int8" / name)


def _end_with_input() -> None:
    while os.read(0, 1):  # not sys.stdin, whose lock would trouble a normal exit
        pass
    os._exit(1)


def main(arguments: Sequence[str]) -> int:
    """Run one family's exports; see the module."""
    threading.Thread(target=_end_with_input, daemon=True).start()
    recipe_json, models_npz, folder, family, *graphs = arguments
    warnings.simplefilter("ignore")  # third parties only: our own warnings are errors in tests
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    recipe = read_recipe_json(Path(recipe_json))
    models = load_models(recipe, recipe.student_text, recipe.student_user, Path(models_npz))
    chosen: Family = "onnx" if family == "onnx" else "tflite"
    export_family(exportables(recipe, models, graphs), chosen, Path(folder))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
