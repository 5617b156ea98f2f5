"""From a folder of photos to concepts, masks and a report: three stages, each gone on with where it stopped.

``OUT/run`` is trained, ``OUT/concepts`` shows what was found, ``OUT/masks`` is painted with names or without, and
``OUT/index.html`` reports. ``OUT/discover.json`` says what is whole (``slotseg.discovery_record``).
"""

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from slotseg import checkpoint
from slotseg.collecting import collect
from slotseg.concept_figure import concept_figure, telling
from slotseg.concept_page import write_concept_page
from slotseg.concepts import read_concepts, write_concepts
from slotseg.data.inputs import Input, Inputs
from slotseg.diagnosis import diagnose
from slotseg.discovery_page import Report, about_duration, about_memory, examples, write_report
from slotseg.discovery_record import DiscoveryRecord, Stage, read_record
from slotseg.errors import ConfigError
from slotseg.files import read_json_lines, writing
from slotseg.labels import LabelMap
from slotseg.launch import new_training, plan_training, resumed_training
from slotseg.naming import Naming, read_names
from slotseg.outputs import Outputs, Wanted
from slotseg.painting import paint
from slotseg.render import save_picture
from slotseg.run_page import write_run_page
from slotseg.run_record import read_run
from slotseg.runs import RunFolder
from slotseg.segmenter import Segmenter
from slotseg.stage_costs import MAX_PAINTED, measure_stages

log = logging.getLogger(__name__)

PRESET = "photos"
COLUMNS = 8
"""Concepts of the figure."""


@dataclass(frozen=True, kw_only=True)
class Discovered:
    """What came of it."""

    report: Path
    """The page to open."""
    num_photos: int
    num_concepts: int
    num_failures: int
    """Photos that could not be used."""
    anything_done: bool
    """Whether there was anything left to do."""


def discover(
    photos: Sequence[Path],
    output: Path,
    values: Mapping[str, Any],
    *,
    names: Path | None = None,
    command: str = "",
    device: str = "auto",
    workers: int | None = None,
) -> Discovered:
    """Do all that is left to do of a discovery; a first call says beforehand what it will cost.

    Args:
        photos: Files and folders, searched recursively; the same at each call.
        output: Folder for everything; a new one, an empty one, or that of an earlier call.
        values: Settings by dotted name, laid over the preset ``photos``; at a later call they may be left out.
        names: A ``names.json`` to paint with; by default ``output/names.json``, if it is there.
        command: What the user typed, for the report.
        device: As in ``slotseg.devices.resolve_device``.
        workers: Loader processes; None chooses.

    Raises:
        ConfigError: If the folder is another's, or photos or settings are not those of the first call.
        DataError: If there are no photos, or names don't fit.
        KeyboardInterrupt: On Ctrl-C; what is there is whole, and another call goes on.
    """
    _check_apart(photos, output)
    record = read_record(output)
    naming = _read_naming(names, output)
    where = [str(photo.resolve()) for photo in photos]
    inputs = Inputs(where)
    number, digest = _listed(inputs)
    if record and _run(output).last.is_file():  # before there is a checkpoint, all may be begun anew
        record.check(where, values, number, digest)
        stages = _Stages(record, inputs, naming, device, workers)
        if left := stages.left():
            log.info("Going on with %s: %s", output, ", ".join(left))
    else:
        record = _begin(photos, output, values, inputs, (number, digest), command, device, workers)
        stages = _Stages(record, inputs, naming, device, workers)
        left = stages.left()
    stages.train()
    stages.find_concepts()
    stages.paint()
    return Discovered(
        report=stages.report(),
        num_photos=number,
        num_concepts=stages.labels.num_prototypes,
        num_failures=max(stage.num_failures for stage in record.stages.values()),
        anything_done=bool(left),
    )


class _Stages:
    """The stages, each of which returns at once where it is whole."""

    def __init__(
        self, record: DiscoveryRecord, inputs: Inputs, naming: Naming | None, device: str, workers: int | None
    ) -> None:
        self.record, self.inputs, self.naming, self.device, self.workers = record, inputs, naming, device, workers
        self.run = _run(record.path)
        self.concepts = record.path / "concepts"
        self.outputs = _outputs(inputs, record.path)

    def left(self) -> list[str]:
        """What is to be done yet, in words."""
        stages, words = self.record.stages, []
        share = self._training_left()
        if share:
            words.append(f"training {about_duration(share * stages['training'].expected_seconds)}")
        if share or not self._concepts_are_whole():
            words.append(f"concepts {about_duration(stages['concepts'].expected_seconds)}")
        if share or not self._masks_are_whole():
            words.append(f"masks {about_duration(stages['masks'].expected_seconds)}")
        return words

    def train(self) -> None:
        """Train the run, or go on with it."""
        if not self._training_left():
            return
        with self.record.working("training") as stage:
            if self.run.last.is_file():
                trainer = resumed_training(self.run.path, device=self.device, workers=self.workers)
            else:
                trainer = new_training(
                    [Path(photo) for photo in self.record.photos],
                    self.record.settings,
                    preset=PRESET,
                    out=self.run.path,
                    device=self.device,
                    workers=self.workers,
                )
            trainer.train()
            stage.num_failures, stage.whole = len(trainer.journal.unreadable), True

    def find_concepts(self) -> None:
        """Look at all photos for the best segments of each concept."""
        if self._concepts_are_whole():
            return
        log.info("Looking at %d photos for the best segments of each concept", self.record.num_photos)
        page, data, figure, failures = self._concept_files
        with self.record.working("concepts") as stage:
            _begin_stage(stage, self.digest)
            with writing(self.concepts):
                self.concepts.mkdir(parents=True, exist_ok=True)
                failures.unlink(missing_ok=True)
            segmenter = Segmenter.load(self.run.last, matched=False, device=self.device, precision="auto")
            found = collect(
                segmenter,
                self.inputs,
                failures=failures,
                run=self.record.path.resolve().name,
                checkpoint=self.digest,
                total=self.record.num_photos,
            )
            self.record.figure = [concept.id for concept in telling(found.collection, COLUMNS)]
            write_concept_page(page, found.collection, found.thumbnails, self.naming, overwrite=True)
            save_picture(figure, concept_figure(found.collection, found.thumbnails, self.record.figure))
            write_concepts(data, found.collection)
            stage.num_failures, stage.whole = found.num_failures, True

    def paint(self) -> None:
        """Paint all photos; masks of other names, or of an earlier state of the run, are painted anew."""
        if self._masks_are_whole():
            return
        words = f"the names of {self.naming.where}" if self.naming else "the numbers of prototypes"
        log.info("Painting %d photos with %s", self.record.num_photos, words)
        stage = self.record.stages["masks"]
        if stage.made_of != self._masks_made_of:
            self._remove_masks()
            _begin_stage(stage, self._masks_made_of)
            self.record.write()
        if self.naming:
            self.naming.warn_of_another_run(self.digest)
        with self.record.working("masks"):
            segmenter = Segmenter.load(self.run.last, labels=self.labels, device=self.device, precision="auto")
            painted = paint(segmenter, self.outputs, skip_existing=True)
            stage.num_failures, stage.whole = len(painted.failures), True

    def report(self) -> Path:
        """Write the pages of the run and of all."""
        run = read_run(self.run.path)
        findings = diagnose(run.lines, run.config)
        write_run_page(self.run.path / "report.html", run, findings, overwrite=True)
        file = self.record.path / "index.html"
        report = Report(
            record=self.record,
            collection=read_concepts(self.concepts / "concepts.json"),
            labels=self.labels,
            naming=self.naming,
            figure=self.concepts / "figure.png",
            examples=examples(self.outputs),
            failures=[str(line.get("error", "")) for line in read_json_lines(self.outputs.failures)],
            findings=findings,
        )
        write_report(file, report)
        return file

    @cached_property
    def digest(self) -> str:
        """Of the trained checkpoint."""
        return checkpoint.digest(self.run.last)

    @cached_property
    def labels(self) -> LabelMap:
        """What masks are painted with."""
        number = len(read_concepts(self.concepts / "concepts.json").concepts)
        return self.naming.label_map(number) if self.naming else LabelMap.prototypes(number)

    @property
    def _concept_files(self) -> tuple[Path, Path, Path, Path]:
        """Page, data, figure and failures."""
        first, second, third, fourth = (
            self.concepts / name for name in ("index.html", "concepts.json", "figure.png", "failures.jsonl")
        )
        return first, second, third, fourth

    @cached_property
    def _masks_made_of(self) -> str:
        """The checkpoint and what its prototypes are called."""
        labels = {**self.labels.to_dict(), "source": None}
        return f"{self.digest} {hashlib.sha256(json.dumps(labels).encode()).hexdigest()[:16]}"

    def _training_left(self) -> float:
        """Share of the steps that are to be done yet."""
        if not self.run.last.is_file():
            return 1.0
        header = checkpoint.read_header(self.run.last)
        return 1 - min(1.0, int(header["step"]) / int(header["total_steps"]))

    def _concepts_are_whole(self) -> bool:
        stage = self.record.stages["concepts"]
        files = self._concept_files[:3]
        return stage.whole and stage.made_of == self.digest and all(file.is_file() for file in files)

    def _masks_are_whole(self) -> bool:
        stage = self.record.stages["masks"]
        if not (self._concepts_are_whole() and stage.whole and stage.made_of == self._masks_made_of):
            return False
        return (
            self.outputs.legend.is_file()
            and self.outputs.survey().num_masks >= self.record.num_photos - stage.num_failures
        )

    def _remove_masks(self) -> None:
        """Remove what was painted with other names, and nothing else."""
        files = (file for item in self.inputs if not item.problem for file in self.outputs.files(item))
        with writing(self.outputs.folder):
            for file in (*files, *self.outputs.common):
                file.unlink(missing_ok=True)


def _begin_stage(stage: Stage, made_of: str) -> None:
    stage.made_of, stage.whole, stage.seconds = made_of, False, 0.0


def _begin(
    photos: Sequence[Path],
    output: Path,
    values: Mapping[str, Any],
    inputs: Inputs,
    listed: tuple[int, str],
    command: str,
    device: str,
    workers: int | None,
) -> DiscoveryRecord:
    """Measure what it will cost, say it, and write it down."""
    _outputs(inputs, output).survey()  # may refuse
    plan = plan_training(photos, values, preset=PRESET)
    number, digest = listed
    log.info("Trying out what %d photos cost here ...", number)
    costs = measure_stages(plan, _spread(inputs, number), number, device=device, workers=workers)
    seconds = {"training": costs.training, "concepts": costs.concepts, "masks": costs.masks}
    log.info(
        "training %s (%d steps at %.3g photos/s), concepts %s, masks %s; about %s of memory",
        about_duration(costs.training),
        costs.steps,
        costs.photos_per_second,
        about_duration(costs.concepts),
        about_duration(costs.masks),
        about_memory(costs.memory),
    )
    record = DiscoveryRecord(
        path=output,
        photos=[str(photo.resolve()) for photo in photos],
        settings=dict(values),
        num_photos=number,
        photo_names=digest,
        command=command,
        expected_memory=costs.memory,
        stages={name: Stage(expected_seconds=expected) for name, expected in seconds.items()},
    )
    record.write()
    return record


def _run(output: Path) -> RunFolder:
    return RunFolder(output / "run")


def _outputs(inputs: Inputs, output: Path) -> Outputs:
    return Outputs(inputs, output / "masks", Wanted(overlay=True, legend=True))


def _check_apart(photos: Iterable[Path], output: Path) -> None:
    """Refuse an output among the photos, where its pictures would be taken for some.

    Raises:
        ConfigError: If it is.
    """
    for photo in photos:
        if output.resolve().is_relative_to(photo.resolve()):
            raise ConfigError(f"{output} lies in {photo}, whose photos are looked for; expected an --output elsewhere")


def _read_naming(names: Path | None, output: Path) -> Naming | None:
    file = names or output / "names.json"
    return read_names(file) if names or file.is_file() else None


def _listed(inputs: Inputs) -> tuple[int, str]:
    """How many photos there are, and a digest of their names, in order."""
    number, sha = 0, hashlib.sha256()
    for item in inputs:
        sha.update(item.file_name.encode(errors="surrogateescape") + b"\n")
        number += 1
    return number, sha.hexdigest()[:16]


def _spread(inputs: Inputs, number: int) -> list[Input]:
    """Some of the photos, evenly spread."""
    wanted = {i * number // MAX_PAINTED for i in range(MAX_PAINTED)}
    return [item for i, item in enumerate(inputs) if i in wanted]
