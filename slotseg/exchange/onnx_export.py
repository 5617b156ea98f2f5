"""A run's whole network in one ONNX file: from a photo's pixels to scores and a class map, without torch.

Normalisation, padding to whole cells, merging to concepts, bilinear upsampling and the label map are in the graph.
Scaling the photo to the working size is not. torch's TorchScript exporter is used. It keeps height, width and batch
free for every backbone here, takes seconds, needs no further package, and is the same from torch 2.4 to 2.14.

Letters: B images, K prototypes after merging, P before, H W pixels, h w feature cells.
"""

import importlib
import io
import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import slotseg
from slotseg import amounts
from slotseg.data.views.augment import normalize
from slotseg.errors import CheckpointError, ConfigError
from slotseg.files import missing_space, write_bytes
from slotseg.labels.label_map import IGNORE
from slotseg.segment_config import PLAIN
from slotseg.segmenting.looks import default_size
from slotseg.segmenting.segmenter import Segmenter
from slotseg.values import to_dict

log = logging.getLogger(__name__)

SUFFIX = ".onnx"
OPSET = 18
"""First version whose ``Resize`` resamples a ViT's position embedding as torch does. onnxruntime 1.14 reads it."""
KEY = "slotseg"
"""Key of our JSON in the file's metadata."""
TOLERANCE = 1e-4
"""Largest difference between scores of onnxruntime and of torch. Beyond it a file is refused."""
LIMIT = 2**31 - 1
"""Most bytes of an ONNX file that holds its own tensors, a limit of protobuf."""


class Network(nn.Module):
    """The exported network: everything between an image of the working size and its class map.

    Args:
        segmenter: Trained segmenter. Its test-time augmentation and its refinement are left out.
    """

    def __init__(self, segmenter: Segmenter) -> None:
        super().__init__()
        self.encoder = segmenter.encoder
        self.mean, self.std = segmenter.config.backbone.mean, segmenter.config.backbone.std
        self.stride = segmenter.stride
        self.members = None if self.encoder.concepts is None else members(self.encoder.concepts)
        self.concept_of_output = F.one_hot(self.encoder.output_concepts, self.encoder.num_concepts).float()
        self.classes = torch.tensor(segmenter.labels.classes, dtype=torch.int32)
        self.dtype = torch.uint8 if segmenter.labels.ignore == IGNORE else torch.int32

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Scores ``(B, K, h, w)`` and class map ``(B, H, W)`` of RGB images ``(B, 3, H, W)`` in [0, 1]."""
        height, width = image.shape[2], image.shape[3]
        padded = F.pad(image, (0, -width % self.stride, 0, -height % self.stride), mode="replicate")
        scores = self._scores(normalize(padded, self.mean, self.std))
        upsampled = F.interpolate(scores, scale_factor=self.stride / self.encoder.points, mode="bilinear")
        best = upsampled.argmax(dim=1)[:, :height, :width]
        return scores, self.classes[best].to(self.dtype)

    def _scores(self, images: Tensor) -> Tensor:
        """What ``Encoder.forward`` gives, with gathers and products for its scatters: more runtimes can."""
        encoder = self.encoder
        if encoder.decoder is not None:
            assignments = encoder.assignments(images)
            return torch.einsum("buhw,uk->bkhw", assignments, self.concept_of_output)
        scores: Tensor = encoder.prototypes(encoder.projector(encoder.backbone(images)))
        return scores if self.members is None else scores[:, self.members].amax(dim=2)


def members(concepts: Tensor) -> Tensor:
    """The prototypes of each concept, ``(K, most)``.

    A concept with fewer prototypes than ``most`` repeats its first one.

    Args:
        concepts: Concept of each prototype, ``(P,)``.
    """
    found = [(concepts == k).nonzero()[:, 0] for k in range(int(concepts.max()) + 1)]
    most = max(len(some) for some in found)
    return torch.stack([torch.cat([some, some[:1].expand(most - len(some))]) for some in found])


def metadata(segmenter: Segmenter) -> dict[str, Any]:
    """Values that a user of the file needs to know, JSON-ready."""
    labels, config = segmenter.labels, segmenter.config.backbone
    return {
        "version": slotseg.__version__,
        "backbone": config.name,
        "size": segmenter.size,
        "stride": segmenter.stride,
        "mean": list(config.mean),
        "std": list(config.std),
        "reading": to_dict(segmenter.config.reading),
        "prototypes": segmenter.encoder.num_concepts,
        "ignore": labels.ignore,
        **labels.to_dict(),
    }


def export_onnx(segmenter: Segmenter, output: Path, *, overwrite: bool = False) -> None:
    """Write a segmenter as an ONNX model, once onnxruntime computes the same as torch.

    The input ``image`` is float32 ``(B, 3, H, W)``, RGB in [0, 1], of any batch, height and width. The output
    ``scores`` is float32 ``(B, K, h, w)``, cosines. The output ``classes`` is ``(B, H, W)``, ids by the label map,
    uint8, or int32 where there are more than 255 classes. The metadata under ``KEY`` are those of ``metadata``.

    Args:
        segmenter: Segmenter on the CPU.
        output: File whose suffix is ``.onnx``.
        overwrite: Whether a file that exists is replaced.

    Raises:
        ConfigError: If onnx or onnxruntime is missing, the network cannot be exported for every size, the file has
            another suffix, or it exists.
        CheckpointError: If the file cannot be written. An older one stays as it was.
    """
    onnx, onnxruntime = require("onnx"), require("onnxruntime")
    if output.suffix != SUFFIX:
        raise ConfigError(f"{output} has another suffix than files for onnx; expected {SUFFIX}")
    if output.exists() and not overwrite:
        raise ConfigError(f"{output} exists; expected a new --output, or --overwrite to replace it")
    if segmenter.config.segment != replace(segmenter.config.segment, **PLAIN):
        log.warning("The run looks at photos more than once or refines its maps; the file looks once and does not.")
    network = Network(segmenter).eval()
    model = onnx.load_from_string(_graph(network, segmenter.config.backbone.name))
    _describe(model, segmenter)
    onnx.checker.check_model(model, full_check=True)
    content: bytes = model.SerializeToString()
    _compare(network, onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"]), segmenter)
    try:
        write_bytes(output, content)
    except OSError as error:
        raise CheckpointError(f"{output} cannot be written: {missing_space(output, len(content)) or error}") from error
    log.info(
        "To run it: onnxruntime.InferenceSession(%r) takes float32 RGB in [0, 1], (B, 3, H, W), its short side of %d",
        str(output),
        segmenter.size,
    )


def require(module: str) -> Any:
    """Import onnx or onnxruntime.

    Raises:
        ConfigError: If the module cannot be imported.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ConfigError(
            f"{module} cannot be imported ({error}); expected onnx and onnxruntime for this format: "
            "pip install 'slotseg[onnx]'"
        ) from error


@torch.no_grad()
def _graph(network: Network, name: str) -> bytes:
    """Export the network as the content of a file.

    It is traced with an image of a size that no ViT has. At its own size, a ViT would not resample its embedding.
    """
    size = sum(tensor.numel() * tensor.element_size() for tensor in network.state_dict().values())
    if size > LIMIT:
        raise ConfigError(
            f"the model takes {amounts.size(size)}; expected at most {amounts.size(LIMIT)}, which an ONNX file can hold"
        )
    example = torch.rand(2, 3, 3 * network.stride - 1, 5 * network.stride - 1)
    axes = {0: "batch", 2: "height", 3: "width"}
    written: Any = io.BytesIO()  # torch's types ask for a path, which only its other exporter needs
    try:
        with _quiet(), _resampling():
            torch.onnx.export(
                network,
                (example,),
                written,
                input_names=["image"],
                output_names=["scores", "classes"],
                dynamic_axes={
                    "image": axes,
                    "scores": {0: "batch", 2: "cells_down", 3: "cells_across"},
                    "classes": {0: "batch", 1: "height", 2: "width"},
                },
                opset_version=OPSET,
                dynamo=False,
            )
    except (RuntimeError, ValueError, TypeError) as error:  # torch's own are RuntimeErrors
        reason = str(error).splitlines()[0]
        raise ConfigError(f"torch {torch.__version__} cannot export backbone {name} to ONNX: {reason}") from error
    content: bytes = written.getvalue()
    return content


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the tracer, which warns of every number that it takes as fixed, and of its age.

    ``_compare`` checks what is computed.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def _resampling() -> Iterator[None]:
    """Teach the exporter bicubic interpolation with antialiasing, by which timm fits a ViT's position embedding."""
    name = "aten::_upsample_bicubic2d_aa"
    exporter: Any = torch.onnx  # documented there, but not among what its types export
    exporter.register_custom_op_symbolic(name, _resize, OPSET)
    try:
        yield
    finally:
        exporter.unregister_custom_op_symbolic(name, OPSET)


def _resize(graph: Any, x: Any, size: Any, align_corners: Any, *_: Any) -> Any:
    """ONNX's ``Resize`` as torch computes it, with a kernel of parameter -0.5 and no weights beyond the edge."""

    def constant(values: list[int]) -> Any:
        return graph.op("Constant", value_t=torch.tensor(values))

    sides = [graph.op("Reshape", side, constant([1])) for side in size.node().inputs()]
    kept = graph.op("Slice", graph.op("Shape", x), constant([0]), constant([2]))
    empty = graph.op("Constant", value_t=torch.tensor([], dtype=torch.float32))
    return graph.op(
        "Resize",
        x,
        empty,
        empty,
        graph.op("Concat", kept, *sides, axis_i=0),
        mode_s="cubic",
        coordinate_transformation_mode_s="half_pixel",
        cubic_coeff_a_f=-0.5,
        exclude_outside_i=1,
        antialias_i=1,
    )


def _describe(model: Any, segmenter: Segmenter) -> None:
    """Add metadata, and sentences that viewers show."""
    model.producer_name, model.producer_version = "slotseg", slotseg.__version__
    model.doc_string = f"Unsupervised semantic segmentation; sizes, names and colours are JSON in the metadata {KEY!r}."
    entry = model.metadata_props.add()
    entry.key, entry.value = KEY, json.dumps(metadata(segmenter))
    scores, classes = model.graph.output
    model.graph.input[0].doc_string = f"RGB in [0, 1], scaled so that the short side has {segmenter.size} pixels"
    scores.doc_string = f"Cosine of each cell of {segmenter.stride} x {segmenter.stride} pixels to each prototype"
    classes.doc_string = f"Class of each pixel of the image; {segmenter.labels.ignore}: none"


@torch.no_grad()
def _compare(network: Network, session: Any, segmenter: Segmenter) -> None:
    """Compare onnxruntime's scores with torch's at sizes that were not traced: a small one, and one as in use."""
    generator = torch.Generator().manual_seed(0)
    stride = segmenter.stride
    size = default_size(segmenter.config) if segmenter.size == "full" else segmenter.size
    for shape in ((3, 3, 2 * stride, 4 * stride + 1), (1, 3, size, size * 4 // 3)):
        image = torch.rand(shape, generator=generator)
        expected = network(image)[0].numpy()
        try:
            scores = session.run(["scores"], {"image": image.numpy()})[0]
            error = float(np.abs(scores - expected).max()) if scores.shape == expected.shape else float("inf")
        except Exception as problem:  # onnxruntime's own have no common base
            log.debug("onnxruntime: %s", problem)
            error = float("inf")
        if not error <= TOLERANCE:
            raise ConfigError(
                f"backbone {segmenter.config.backbone.name} has other scores in onnxruntime than in torch for an image "
                f"of {shape[2]} x {shape[3]} pixels (by {error:.1g}); expected {TOLERANCE} at most: export it with "
                "`slotseg export timm`, which takes any"
            )
