"""From what a user asked for to a trainer: preset, options, weights, photos, run folder."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from slotseg import distributed
from slotseg.config import TrainConfig
from slotseg.data.reading.survey import survey
from slotseg.data.views.batches import steps_per_epoch
from slotseg.data.views.sources import PhotoFolder, Scenes, Source
from slotseg.data.views.unlabelled import NO_PHOTOS, NUM_PHOTOS, Photos
from slotseg.devices import precision_name
from slotseg.errors import CheckpointError, ConfigError
from slotseg.exchange.default_weights import Choice, choose
from slotseg.exchange.weights import adopt, read_weights
from slotseg.presets import DATASET_PRESETS, auto_epochs, changed, resolve, sources_now
from slotseg.runs import checkpoint
from slotseg.runs.folder import new_run, run_to_resume
from slotseg.segment_config import ReadingConfig
from slotseg.training.trainer import Trainer
from slotseg.values import from_dict

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A training as it was resolved from a user's words."""

    config: TrainConfig
    """All settings, with epochs or steps."""
    source: Source
    """The photos."""
    preset: str
    """Name of the preset."""
    photos: Sequence[Path]
    """Files and folders that the photos came from; none for the built-in scenes."""
    sources: Mapping[str, str]
    """Origin of each setting, by dotted name."""
    default: Choice | None = None
    """Choice of weights, where nobody has asked for others."""
    photo_notes: Sequence[str] = ()
    """Sentences on what reading changes or leaves out, each with a number of photos."""


def plan_training(
    photos: Photos, values: Mapping[str, Any], *, preset: str | None = None, download: bool = True
) -> Plan:
    """Resolve preset, options, weights' own settings and photos.

    Args:
        photos: Photos to train on; none for the built-in scenes.
        values: Settings by dotted name, laid over the preset.
        preset: Name of a preset; by default ``photos``, the training set's, or ``tiny`` for the built-in scenes.
        download: Whether to load weights that nobody has asked for. If not, the network has random ones.

    Raises:
        ConfigError: If a setting is unknown, out of range or in conflict with another.
        DataError: If there are no photos.
        CheckpointError: If the weights to start from cannot be used.
    """
    folders = photos.folders()
    preset = preset or DATASET_PRESETS.get(photos.dataset or "") or ("photos" if photos else "tiny")
    config, sources = resolve(preset, values)
    source = _source(folders, config.reading)  # before weights may be downloaded
    config, photo_notes = _surveyed(config, source, sources)
    config, default = _with_default(config, sources, download)
    if default and default.reason and download:
        log.warning(default.sentence())
    if config.backbone.init:
        weights = read_weights(config.backbone.init)
        adopted = adopt(config.backbone, weights, named="backbone.name" in values)
        given = {name: getattr(config.backbone, name) for name in ("mean", "std") if f"backbone.{name}" in values}
        adopted = replace(adopted, **given)
        for name in ("name", "options", "mean", "std"):
            if getattr(adopted, name) != getattr(config.backbone, name):
                sources[f"backbone.{name}"] = "weights"
        config = replace(config, backbone=adopted)
    published = NUM_PHOTOS.get(photos.dataset or "", len(source))
    if len(source) != published:
        log.warning("There are %d photos; %s was published with %d", len(source), photos.dataset, published)
    if config.epochs is None and config.steps is None:
        config = replace(config, epochs=auto_epochs(steps_per_epoch(len(source), config.batch_size)))
        sources["epochs"] = f"auto: {len(source)} photos"
    if not photos:
        log.info("No photos given: training on the %d built-in scenes.", len(source))
    return Plan(
        config=config,
        source=source,
        preset=preset,
        photos=folders,
        sources=sources,
        default=default,
        photo_notes=photo_notes,
    )


def _surveyed(config: TrainConfig, source: Source, sources: dict[str, str]) -> tuple[TrainConfig, list[str]]:
    """Settle the range of the photos' values. One process looks for all; ``sources`` tells where it is from."""
    if not isinstance(source, PhotoFolder):
        return config, []
    seen = distributed.once(lambda: survey(source.paths, config.reading))
    if seen.found:
        sources["reading.range"] = seen.found
    source.reading = seen.reading
    return replace(config, reading=seen.reading), seen.lines(len(source))


def _with_default(config: TrainConfig, sources: dict[str, str], download: bool) -> tuple[TrainConfig, Choice | None]:
    """Settle the weights where nobody has asked for any. One process chooses for all; ``sources`` tells why."""
    name, asked, default = config.backbone.name, config.backbone.init, None
    if asked is None or sources["backbone.init"] == "option":
        return config, None
    if sources["backbone.name"] == "option":
        init, sources["backbone.init"] = name, "timm's weights for the backbone"
    else:
        default = distributed.once(lambda: choose(asked, download=download))
        if default.reason:
            sources["backbone.init"] = f"instead of {asked}: {default.reason}"
        name, init = default.model, default.init
    changes = {"init": init} if download else {"name": name, "init": None}
    return replace(config, backbone=replace(config.backbone, **changes)), default


def new_training(
    photos: Photos,
    values: Mapping[str, Any],
    *,
    preset: str | None = None,
    out: Path | None = None,
    device: str = "auto",
    workers: int | None = None,
) -> Trainer:
    """Prepare a new run, in each of several processes.

    Args:
        photos: Photos to train on; none for the built-in scenes.
        values: Settings by dotted name, laid over the preset.
        preset: Name of a preset; by default as in ``plan_training``.
        out: The run's folder; by default the next free ``runs/<preset>-<n>``.
        device: Name of the device; see ``slotseg.devices.resolve_device``.
        workers: Loader processes; None chooses.

    Raises:
        SlotSegError: As ``plan_training``, ``slotseg.runs.folder.new_run`` and ``Trainer``.
    """
    return planned_training(plan_training(photos, values, preset=preset), out=out, device=device, workers=workers)


def planned_training(
    plan: Plan, *, out: Path | None = None, device: str = "auto", workers: int | None = None
) -> Trainer:
    """Prepare a new run as it was planned. The arguments and errors are those of ``new_training``."""
    trainer = Trainer(
        plan.config,
        plan.source,
        distributed.once(lambda: new_run(out, plan.preset)),
        device=device,
        workers=workers,
        notes={
            "preset": plan.preset,
            "photos": [str(p.resolve()) for p in plan.photos],
            "sources": dict(plan.sources),
            "photo_notes": list(plan.photo_notes),
        },
    )
    trainer.announce([*_description(trainer, plan.sources), *(f"  {note}" for note in plan.photo_notes)])
    return trainer


def resumed_training(
    path: Path,
    photos: Photos = NO_PHOTOS,
    values: Mapping[str, Any] | None = None,
    *,
    preset: str | None = None,
    device: str = "auto",
    workers: int | None = None,
) -> Trainer:
    """Continue a run from a checkpoint, with its own settings and photos where no others are given.

    Args:
        path: The run's folder, or one of its numbered checkpoints to go back to.
        photos: The run's photos, if they are elsewhere now.
        values: Settings by dotted name; see ``slotseg.presets.changed`` for those that may differ from the run's.
        preset: Name of the run's preset; any other is refused.
        device: Name of the device; see ``slotseg.devices.resolve_device``.
        workers: Loader processes; None chooses.

    Raises:
        CheckpointError: If there is no run, or its checkpoint cannot be used.
        DataError: If its photos are gone.
        ConfigError: If the photos are others than those at the start, or a setting cannot change.
    """
    run, file = run_to_resume(path)
    content = checkpoint.load(file)
    if content.info.get("step") is None:
        raise CheckpointError(
            f"{file} does not say at which step it is, as of a file to segment with alone; expected a checkpoint of "
            f"`slotseg train`: start a new run with --init {file}"
        )
    of_run = {name: content.info[name] for name in checkpoint.NOTES if content.info.get(name) is not None}
    notes = {"preset": preset, "photos": None, "sources": {}, **of_run}  # a run made in Python may have none
    if preset not in (None, notes["preset"]):
        raise ConfigError(f"the run's preset is {notes['preset']} and not {preset}; expected no other: leave it out")
    folders = photos.folders()
    before = from_dict(TrainConfig, content.info["config"])
    config, differences = changed(before, values or {})
    if notes["photos"] is None and not photos:
        made = "imported" if "official" in of_run else "made"
        raise ConfigError(f"{path} was {made} without photos; expected them: slotseg train PHOTOS --resume {path}")
    where = [str(p.resolve()) for p in folders] or notes["photos"]
    sources = sources_now(before, content.info["config"], notes["sources"])
    sources |= dict.fromkeys(differences, f"option, from step {content.info['step']}")
    trainer = Trainer(
        config,
        _source([Path(str(p)) for p in where], config.reading),
        run,
        device=device,
        workers=workers,
        resume=content,
        notes={**notes, "photos": where, "sources": sources},
    )
    lines = [f"Continuing {path} at step {content.info['step']} of {trainer.total_steps}."]
    if photos and where != notes["photos"]:
        lines.append(f"  photos: {_listed(where)}, before {_listed(notes['photos'])}")
    lines += [f"  {name}: {after}, before {before}" for name, (before, after) in differences.items()]
    trainer.announce(lines)
    return trainer


def _listed(photos: Sequence[str] | None) -> str:
    return ", ".join(photos) if photos else "not known" if photos is None else "the built-in scenes"


def _source(photos: Sequence[Path], reading: ReadingConfig) -> Source:
    """The photos. With several processes, one looks for them."""
    return distributed.once(lambda: PhotoFolder(photos, reading)) if photos else Scenes()


def _description(trainer: Trainer, sources: Mapping[str, str]) -> list[str]:
    """Lines on what was resolved, and why."""
    config, learner, processes = trainer.config, trainer.learner, distributed.world_size()
    backbone = learner.model.student.backbone
    number = config.model.num_prototypes
    concepts = "as many concepts as stay distinct" if number is None else f"{number} concepts"
    epochs = learner.total_steps / learner.per_epoch
    reason = sources["steps" if config.steps else "epochs"]
    init, taught = config.backbone.init or "random weights", "frozen" if config.model.freeze_backbone else "trained"
    loaders = f"{learner.workers} loader process{'' if learner.workers == 1 else 'es'}"
    decoder = f", then {config.decoder.steps} of a decoder" if config.decoder.steps else ""
    taken = [f"  weights: {learner.taken}"] if learner.taken else []
    reading = [f"  {words} ({sources['reading.range']})"] if (words := config.reading.sentence()) else []
    shared = "" if processes == 1 else f" for each of {processes} processes, which share every batch"
    return [
        f"{trainer.run.path}: {len(learner.source)} photos, {concepts}",
        f"  {learner.total_steps} steps of {config.batch_size} photos, {epochs:.1f} epochs ({reason})" + decoder,
        f"  {config.backbone.name} from {init}, stride {backbone.stride}, {taught}",
        *taken,
        *reading,
        f"  on {learner.device} in {precision_name(learner.precision)}, {loaders}{shared}",
    ]
