"""Time bilinear upsampling and argmax over K in one against the plain way, in one process.

The plain way is ``F.interpolate`` of the whole score map, then ``argmax``. torch's ``max`` gives the same
labels and is timed as well if it is faster. See benchmarks/README.md.

Scores are of two kinds. *Scenes*: cosines of a scene's features to K prototypes. The features (D =
128) of a scene are 14 regions of wobbling outline, each one of 64 random directions, plus noise of
5 cells' wavelength (0.7 of a direction's length), blurred (sigma 1 cell), plus noise of each cell of
its own (0.3), L2-normalised; the prototypes are 5 rounds of spherical k-means on 16 other scenes of
the same directions. *Noise*: uniform in [-1, 1] in every cell. No network gives such scores; they are the worst case.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from slotseg.eval.report import text_table
from slotseg.segmenting.upsampling import contenders, upsampled_argmax

Size = tuple[int, int]

SETUPS = (
    (256, (34, 60), (1080, 1920)),
    (256, (10, 10), (320, 320)),
    (256, (20, 20), (320, 320)),
    (27, (10, 10), (320, 320)),
    (27, (20, 20), (320, 320)),
)
MIB = 1 << 20


def main() -> None:
    """Print a table with a row for each setup and kind of scores."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--memory", nargs=4, metavar=("WAY", "SCORES", "HEIGHT", "WIDTH"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory:
        way, scores, height, width = options.memory
        print(peak_memory(WAYS[way], torch.from_numpy(np.load(scores)), (int(height), int(width))))
        return
    cases = [
        (f"{kind}, K = {k}, {cells[0]} x {cells[1]} to {size[0]} x {size[1]}", make(k, *cells), size)
        for kind, make in (("scenes", realistic_scores), ("noise", noise_scores))
        for k, cells, size in SETUPS
    ]
    memory = [[measured_memory(way, scores, size) for way in ("plain", "ours")] for _, scores, size in cases]
    head = "scores,plain ms,max ms,ours ms,plain / ours,lowest,highest,contenders,plain MiB,ours MiB,differ,by at most"
    rows = [head.split(",")]
    for (name, scores, size), peaks in zip(cases, memory, strict=True):
        row = [name, *timings(scores, size, options.repetitions), f"{mean_contenders(scores):.1f}"]
        rows.append([*row, *(f"{p / MIB:.0f}" for p in peaks), *differences(scores, size)])
    print(f"torch {torch.__version__}, numpy {np.__version__}, {torch.get_num_threads()} threads")
    print(text_table(rows))


@torch.inference_mode()
def plain(scores: Tensor, size: Size) -> NDArray[np.int64]:
    """Labels ``(H, W)`` from all upsampled scores."""
    labels: NDArray[np.int64] = upsampled(scores, size).argmax(dim=0).numpy()
    return labels


@torch.inference_mode()
def plain_max(scores: Tensor, size: Size) -> NDArray[np.int64]:
    """Labels ``(H, W)`` with ``max``, which is faster than ``argmax`` over a first dimension."""
    labels: NDArray[np.int64] = upsampled(scores, size).max(dim=0).indices.numpy()
    return labels


def ours(scores: Tensor, size: Size) -> NDArray[np.uint16]:
    """Labels ``(H, W)`` by slotseg."""
    return upsampled_argmax(scores, (scores.shape[1], scores.shape[2]), size)


WAYS: dict[str, Callable[[Tensor, Size], NDArray[np.integer]]] = {"plain": plain, "max": plain_max, "ours": ours}


def upsampled(scores: Tensor, size: Size) -> Tensor:
    """All scores ``(K, H, W)``."""
    return F.interpolate(scores[None], size, mode="bilinear", align_corners=False)[0]


def timings(scores: Tensor, size: Size, repetitions: int) -> list[str]:
    """Medians in milliseconds, and median, lowest and highest ratio. Ways alternate after a round to warm up."""
    rounds = [[timed(way, scores, size) for way in WAYS.values()] for _ in range(repetitions + 1)][1:]
    ratios = [p / o for p, _, o in rounds]
    times = [f"{1000 * statistics.median(way):.1f}" for way in zip(*rounds, strict=True)]
    return [*times, *(f"{r:.1f}" for r in (statistics.median(ratios), min(ratios), max(ratios)))]


def timed(way: Callable[[Tensor, Size], object], scores: Tensor, size: Size) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    way(scores, size)
    return time.perf_counter() - start


def mean_contenders(scores: Tensor) -> float:
    """Mean number of contenders in blocks whose corners differ in their best prototype."""
    padded = F.pad(scores, (1, 1, 1, 1), mode="replicate")
    corners = torch.stack([padded[:, :-1, :-1], padded[:, :-1, 1:], padded[:, 1:, :-1], padded[:, 1:, 1:]])
    best = corners.argmax(dim=1)
    undecided = (best != best[0]).any(dim=0)
    _, counts = contenders(corners[:, :, undecided].transpose(1, 2).contiguous().numpy())
    return float(counts.mean())


def differences(scores: Tensor, size: Size) -> list[str]:
    """Number of labels that differ from the plain way's, and the largest difference of their upsampled scores."""
    values = upsampled(scores, size)
    labels = torch.from_numpy(ours(scores, size).astype(np.int64))
    differ = labels != values.argmax(dim=0)
    loss = (values.amax(dim=0) - values.gather(0, labels[None])[0]).max()
    return [str(int(differ.sum())), f"{loss:.0e}" if differ.any() else "-"]


def measured_memory(way: str, scores: Tensor, size: Size) -> int:
    """Peak memory of one call beyond its inputs, in bytes, measured in its own process."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "scores.npy"
        np.save(file, scores.numpy())
        command = [sys.executable, __file__, "--memory", way, str(file), *map(str, size)]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def peak_memory(way: Callable[[Tensor, Size], object], scores: Tensor, size: Size) -> int:
    """Growth of the process's peak resident size by one call, after a small one has loaded what there is to load.

    The peak may lie above the current size, so memory is first taken and kept until it moves.
    """
    way(scores[:, :2, :2], (4, 4))
    unit = 1 if sys.platform == "darwin" else 1024
    start, ballast = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, []
    while resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit < start * unit + MIB:
        ballast.append(np.ones(MIB // 8))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    way(scores, size)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * unit


def noise_scores(num_prototypes: int, height: int, width: int, seed: int = 0) -> Tensor:
    """Scores ``(K, h, w)``, uniform in [-1, 1]."""
    return torch.rand(num_prototypes, height, width, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def realistic_scores(num_prototypes: int, height: int, width: int, seed: int = 0) -> Tensor:
    """Scores ``(K, h, w)`` of a scene that k-means has not seen, as the module describes."""
    generator = torch.Generator().manual_seed(seed)
    directions = F.normalize(torch.randn(64, 128, generator=generator), dim=1)
    sample = torch.cat([_scene(directions, height, width, generator).flatten(1).T for _ in range(16)])
    prototypes = sample[torch.randperm(len(sample), generator=generator)[:num_prototypes]]
    for _ in range(5):
        nearest = (sample @ prototypes.T).argmax(dim=1)
        prototypes = F.normalize(prototypes * 1e-3 + torch.zeros_like(prototypes).index_add(0, nearest, sample), dim=1)
    return torch.einsum("kd,dhw->khw", prototypes, _scene(directions, height, width, generator)).contiguous()


def _scene(directions: Tensor, height: int, width: int, generator: torch.Generator) -> Tensor:
    """Unit features ``(D, h, w)``."""

    def waves(channels: int, wavelength: int) -> Tensor:
        coarse = torch.randn(1, channels, height // wavelength + 1, width // wavelength + 1, generator=generator)
        return F.interpolate(coarse, (height, width), mode="bicubic", align_corners=False)[0]

    dim = directions.shape[1]
    seeds = torch.rand(14, 2, generator=generator) * torch.tensor([height, width])
    kinds = torch.randint(len(directions), (14,), generator=generator)
    place = torch.stack(torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")) + 1.5 * waves(2, 4)
    regions = kinds[torch.cdist(place.flatten(1).T, seeds).argmin(dim=1)]
    features = directions[regions].T.reshape(dim, height, width) + 0.7 * waves(dim, 5) / dim**0.5
    kernel = torch.exp(-(torch.arange(-2.0, 3.0) ** 2) / 2)
    kernel = torch.outer(kernel, kernel)[None, None] / kernel.sum() ** 2
    features = F.conv2d(F.pad(features[:, None], (2, 2, 2, 2), mode="replicate"), kernel)[:, 0]
    return F.normalize(features + 0.3 * torch.randn(dim, height, width, generator=generator) / dim**0.5, dim=0)


if __name__ == "__main__":
    main()
