"""Checks of the installation, the device, the photos and a checkpoint; each gives remarks."""

import os
import platform
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np
import torch

import slotseg
from slotseg import presets
from slotseg.amounts import count, duration, size
from slotseg.config import BackboneConfig, TrainConfig
from slotseg.data.views.sources import Source
from slotseg.devices import num_cores, resolve_device
from slotseg.errors import CheckpointError, DataError, SlotSegError
from slotseg.exchange.default_weights import Choice, choose
from slotseg.exchange.features import check_features
from slotseg.exchange.fitting import shown
from slotseg.exchange.misfits import likely_model, options_for
from slotseg.exchange.official import converted
from slotseg.exchange.unpickling import load_plain
from slotseg.exchange.weights import Weights, adopt, load_into, read_weights
from slotseg.labels.label_map import read_labels
from slotseg.networks.backbones import Backbone
from slotseg.presets import photos
from slotseg.runs import checkpoint
from slotseg.runs.folder import RunFolder, find_checkpoint, run_of
from slotseg.runs.record import read_run
from slotseg.segment_config import ReadingConfig
from slotseg.segmenting.segmenter import teacher_of
from slotseg.training.decoder_trial import DecoderCost
from slotseg.training.trial import Cost
from slotseg.values import from_dict, is_whole

PACKAGES = ("torch", "torchvision", "timm", "numpy", "opencv-python-headless", "pillow")
LOOKED_AT = 200
"""Photos, spread over the source, that are decoded."""
NAMED = 3
"""Unreadable photos that are named."""


@dataclass(frozen=True, kw_only=True)
class Remark:
    """One thing that was looked at."""

    level: str
    """``ok``, ``note`` (worth knowing) or ``problem`` (has to be mended)."""
    subject: str
    """Subject of the check, a word or two."""
    text: str
    """Sentence on what was found and, for a problem, what to do."""


def ok(subject: str, text: str) -> Remark:
    """A remark that all is well."""
    return Remark(level="ok", subject=subject, text=text)


def note(subject: str, text: str) -> Remark:
    """A remark that is worth knowing."""
    return Remark(level="note", subject=subject, text=text)


def problem(subject: str, text: str) -> Remark:
    """A remark on what has to be mended."""
    return Remark(level="problem", subject=subject, text=text)


def checked(subject: str, check: Callable[[], Iterable[Remark]]) -> Iterator[Remark]:
    """The remarks of a check. An error of ours becomes one of them, so that the other checks go on."""
    try:
        yield from check()
    except SlotSegError as error:
        yield problem(subject, str(error))


def check_installation() -> Iterator[Remark]:
    """Remarks on versions, cores, memory and disk."""
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in PACKAGES if _installed(name))
    yield ok("installation", f"slotseg {slotseg.__version__} on Python {platform.python_version()}: {versions}")
    cores = num_cores()
    disk = shutil.disk_usage(Path.cwd()).free
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 0
    yield ok(
        "machine",
        f"{cores} cores, {size(memory)} of memory, {size(disk)} free on the disk of this folder",
    )
    if disk < 2e9:
        yield note(
            "machine", "less than 2 GB of disk are free, and a checkpoint of the paper's recipes takes about 0.8 GB"
        )


def check_device(name: str) -> Iterator[Remark]:
    """A remark on whether the device is there and computes."""
    device = resolve_device(name)
    x = torch.ones(2, 8, 16, 16, device=device, requires_grad=True)
    torch.nn.functional.conv2d(x, torch.ones(8, 8, 3, 3, device=device), padding=1).sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    computes = bool((x.grad[:, :, 1:-1, 1:-1] == 72).all())
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        text = f"{device}, {torch.cuda.get_device_name(device)}, {size(free)} of {size(total)} free"
    elif device.type == "cpu":
        text = f"cpu, {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}"
    else:
        text = str(device)
    yield ok("device", text) if computes else problem("device", f"{text}: a convolution gives wrong gradients")


def check_photos(source: Source) -> Iterator[Remark]:
    """Remarks on the sizes of the photos, and on those that cannot be read."""
    number = len(source)
    indices = range(0, number, -(-number // LOOKED_AT))
    suffixes: Counter[str] = Counter()
    sizes, failures = [], []
    for index in indices:
        suffixes[Path(source.name(index)).suffix.lower()] += 1
        try:
            sizes.append(source.open(index).pixels().shape[:2])
        except DataError as error:
            failures.append(str(error))
    kinds = ", ".join(f"{count} {suffix}" for suffix, count in suffixes.most_common(4) if suffix)
    looked_at = f"{number} photos, {len(indices)} of them looked at" + (f" ({kinds})" if kinds else "")
    if not sizes:
        yield problem("photos", f"{looked_at}, none of which can be read; the first: {failures[0]}")
        return
    short = np.sort([min(size) for size in sizes])
    height, width = sorted(sizes, key=lambda s: s[0] * s[1])[len(sizes) // 2]
    yield ok("photos", f"{looked_at}; the middle one has {width} x {height} pixels, the shortest side is {short[0]}")
    for message in failures[:NAMED]:
        yield note("photos", message)
    if failures:
        share = f"{len(failures)} of {len(indices)}"
        yield note("photos", f"{share} cannot be read; training takes others instead and lists them in failures.jsonl")
    if number < 50:
        yield note("photos", f"{number} photos are few: expect what fifty or more have in common, seen from few sides")


def describe_reading(reading: ReadingConfig, origin: str, notes: Sequence[str]) -> Iterator[Remark]:
    """Remarks on the range of the photos' values, and on what reading leaves out or changes."""
    if words := reading.sentence():
        yield ok("reading", f"{words} ({origin})")
    for sentence in notes:
        yield note("reading", sentence)


def check_weights(default: Choice | None = None) -> Iterator[Remark]:
    """A remark on the weights that a training on photos starts from where nobody asks for others.

    Args:
        default: Choice that was made. None makes it.
    """
    default = default or choose(str(photos().backbone.init), download=False)
    if default.reason:
        yield note("weights", default.sentence())
    else:
        where = "are on this machine" if default.local else "will be downloaded by the first training: the hub answers"
        yield ok("weights", f"{default.init} {where}")


def check_checkpoint(path: Path | None) -> Iterator[Remark]:
    """Remarks on what a run or a file holds, and on what can be done with it."""
    file = find_checkpoint(path)
    try:
        content = checkpoint.load(file)
    except CheckpointError as error:
        yield from _check_foreign(file, error) if file.is_file() else [problem("checkpoint", str(error))]
        return
    config = from_dict(TrainConfig, content.info["config"])
    broken = [key for key, tensor in content.tensors.items() if not tensor.isfinite().all()]
    if broken:
        yield problem("checkpoint", f"{file}: {broken[0]} and {len(broken) - 1} more hold values that are no numbers")
    try:
        teacher_of(content, config, file)
    except SlotSegError as error:
        yield problem("checkpoint", str(error))
        return
    step, total = content.info.get("step"), content.info.get("total_steps")
    done = (
        f"step {step} of {total}" if is_whole(step) and is_whole(total) else "a segmenter, which cannot be trained on"
    )
    number = config.model.num_prototypes or f"{config.model.num_trained}, merged"
    yield ok("checkpoint", f"{file}: {config.backbone.name}, prototypes: {number}, {done}")
    run = run_of(file)
    if run and is_whole(step) and is_whole(total) and step < total:
        yield note("checkpoint", f"the run is not finished: slotseg train --resume {run.path}")
    if run:
        yield from checked("run", lambda: _check_run(run))


def _check_run(run: RunFolder) -> Iterator[Remark]:
    """Remarks on what lies beside the checkpoints of a run."""
    if not run.labels.is_file():
        yield note("run", "its prototypes have no names yet: slotseg eval matches them to classes")
    else:
        read_labels(run.labels)
    if unread := read_run(run.path).unread:
        yield note("run", unread)


def _check_foreign(file: Path, error: CheckpointError) -> Iterator[Remark]:
    """A remark on what a file that is no checkpoint of ours may be good for."""
    try:
        weights = read_weights(str(file))
    except CheckpointError as as_weights:
        yield problem("checkpoint", f"{error}. As weights for --init it will not do either: {as_weights}")
        return
    if _can_be_imported(file):
        yield problem("checkpoint", f"{file} is no checkpoint of slotseg: slotseg import {file} reads it")
        return
    keys = list(weights.state)
    text = f"it holds {len(keys)} tensors ({shown(keys[0])}, ...)" + (f" of {weights.name}" if weights.name else "")
    yield problem("checkpoint", f"{file} is no checkpoint of slotseg: {text}; {_as_weights(weights)}")


def _as_weights(weights: Weights) -> str:
    """Whether weights of others can start a training, tried in memory, and how."""
    name = weights.name or likely_model(weights.state) or weights.arch
    if name is None:
        return "they are of no usual model, and can start a training with --init only if --backbone names theirs"
    try:
        backbone = Backbone(adopt(BackboneConfig(name=name), weights, named=True)).eval()
        taken = load_into(backbone, weights)
        check_features(backbone, int(backbone.model.default_cfg["input_size"][-1]), weights.source)
    except SlotSegError as error:
        return f"as weights for --init it will not do: {error}"
    given = "" if weights.name else f" {options_for(name, presets.photos().backbone.stride)}"
    of_which = f" (it takes {taken})" if taken else ""
    return f"as weights of {name} it can start a training with --init {weights.source}{given}{of_which}"


def _can_be_imported(file: Path) -> bool:
    """Whether a file is a full checkpoint of the published code."""
    try:
        converted(load_plain(file))
    except CheckpointError:
        return False
    return True


def describe_cost(cost: Cost) -> Iterator[Remark]:
    """Remarks that put the measured cost into words."""
    parts = {"copies": cost.copying, "colours": cost.coloring, "networks and losses": cost.computing}
    shares = ", ".join(f"{name} {seconds / cost.step:.0%}" for name, seconds in parts.items())
    yield ok("speed", f"{cost.photos_per_second:.3g} photos/s in {cost.precision}, tried with {cost.batch} a step")
    yield ok("step", f"{1000 * cost.step:.3g} ms a photo: {shares}")
    beside = "looking" if cost.num_looked else "step"
    processes = "1 process does" if cost.workers == 1 else f"{cost.workers} processes do"
    if cost.num_looked:
        looked = f"{cost.num_looked:,} photos are looked at"
        yield ok("looking", f"{1000 * cost.looking:.3g} ms a photo, all of its views: {looked}, steps take their maps")
    yield ok("reading", f"{1000 * cost.reading:.3g} ms a photo on one core; {processes} it beside the {beside}")
    if cost.by_loader:
        yield note("reading", "reading sets the pace: more --workers or more cores would help, or smaller JPEG files")
    kept = [f"maps take {size(cost.kept_memory)}"] if cost.num_looked else []
    if cost.decoder:
        kept.append(f"photos for the decoder take {size(cost.decoder.memory)}")
        yield ok("decoder", _of_decoder(cost.decoder))
    of_which = f", of which {' and then '.join(kept)}" if kept else ""
    yield ok("memory", f"{size(cost.memory)} at most{of_which}, besides the loader's processes")
    yield ok("time", f"{duration(cost.seconds)} for the whole run: {cost.num_photos:,} photos, counted each time")


def _of_decoder(cost: DecoderCost) -> str:
    """The measured cost of a second stage in words."""
    photos, steps, times = count(cost.num_photos, "photo"), count(cost.steps, "step"), count(cost.rounds, "time")
    each = f"{1000 * cost.stepping:.3g} ms a step, {1000 * cost.assigning:.3g} ms a photo for targets, made {times}"
    return f"{duration(cost.seconds)} for {steps} on {photos} after the others: {each}"


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True
