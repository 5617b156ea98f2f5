"""The stages of a discovery: training, concepts, masks, and the report of them.

Each knows by ``discover.json`` and by its files whether it is whole, and goes on where it is not.
"""

import hashlib
import json
import logging
from functools import cached_property
from pathlib import Path

from slotseg import amounts
from slotseg.concepts.collecting import collect
from slotseg.concepts.collection import read_concepts, write_concepts
from slotseg.concepts.concept_figure import concept_figure, telling
from slotseg.concepts.concept_page import write_concept_page
from slotseg.data.finding.inputs import Inputs
from slotseg.data.views.unlabelled import Photos
from slotseg.discovery.discovery_page import Report, examples, write_report
from slotseg.discovery.record import DiscoveryRecord, Stage
from slotseg.files import read_json_lines, writing
from slotseg.labels.label_map import LabelMap
from slotseg.labels.naming import Naming
from slotseg.painting.outputs import Outputs, Wanted
from slotseg.painting.paint import paint
from slotseg.painting.render import save_picture
from slotseg.runs import checkpoint
from slotseg.runs.folder import RunFolder
from slotseg.runs.record import read_run
from slotseg.runs.scores import read_scores
from slotseg.segmenting.segmenter import Segmenter
from slotseg.training.launch import new_training, resumed_training
from slotseg.watching.diagnosis import diagnose
from slotseg.watching.run_page import write_run_page

log = logging.getLogger(__name__)

PRESET = "photos"
COLUMNS = 8
"""Concepts of the figure."""


def run_in(output: Path) -> RunFolder:
    """The run of a discovery."""
    return RunFolder(output / "run")


def outputs_of(inputs: Inputs, output: Path) -> Outputs:
    """The masks of a discovery, and what lies beside them."""
    return Outputs(inputs, output / "masks", Wanted(overlay=True, legend=True))


class Stages:
    """What is done of a discovery; each stage returns at once where it is whole.

    Args:
        record: What was asked for, and how far it is.
        inputs: The photos.
        naming: What to paint with, if a person has named anything.
        device: As in ``slotseg.devices.resolve_device``.
        workers: Loader processes; None chooses.
    """

    def __init__(
        self, record: DiscoveryRecord, inputs: Inputs, naming: Naming | None, device: str, workers: int | None
    ) -> None:
        self.record, self.inputs, self.naming, self.device, self.workers = record, inputs, naming, device, workers
        self.run = run_in(record.path)
        self.concepts = record.path / "concepts"
        self.outputs = outputs_of(inputs, record.path)

    def left(self) -> list[str]:
        """What is to be done yet, in words."""
        stages, words = self.record.stages, []
        share = self._training_left()
        if share:
            words.append(f"training {amounts.about_duration(share * stages['training'].expected_seconds)}")
        if share or not self._concepts_are_whole():
            words.append(f"concepts {amounts.about_duration(stages['concepts'].expected_seconds)}")
        if share := 1.0 if share else self._masks_left():
            words.append(f"masks {amounts.about_duration(share * stages['masks'].expected_seconds)}")
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
                    Photos([Path(photo) for photo in self.record.photos]),
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
            scores = self._scores(len(found.collection.concepts))
            write_concept_page(page, found.collection, found.thumbnails, self.naming, scores=scores, overwrite=True)
            save_picture(figure, concept_figure(found.collection, found.thumbnails, self.record.figure))
            write_concepts(data, found.collection)
            stage.num_failures, stage.whole = found.num_failures, True

    def paint(self) -> None:
        """Paint all photos; masks of other names, or of an earlier state of the run, are painted anew."""
        if not self._masks_left():
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
            scores=self._scores(self.labels.num_prototypes),
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

    def _scores(self, num_prototypes: int) -> list[str]:
        """What `slotseg eval` measured of the run, in sentences."""
        return [scores.sentence() for scores in read_scores(self.run.last, num_prototypes)]

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

    def _masks_left(self) -> float:
        """Share of the photos that are to be painted yet."""
        stage = self.record.stages["masks"]
        if not self._concepts_are_whole() or stage.made_of != self._masks_made_of:
            return 1.0
        number = self.record.num_photos
        missing = number - self.outputs.survey().num_masks
        whole = stage.whole and missing <= stage.num_failures and self.outputs.legend.is_file()
        return 0.0 if whole else max(missing, 1) / number

    def _remove_masks(self) -> None:
        """Remove what was painted with other names, and nothing else."""
        files = (file for item in self.inputs if not item.problem for file in self.outputs.files(item))
        with writing(self.outputs.folder):
            for file in (*files, *self.outputs.common):
                file.unlink(missing_ok=True)


def _begin_stage(stage: Stage, made_of: str) -> None:
    stage.made_of, stage.whole, stage.seconds = made_of, False, 0.0
