"""The stages of a discovery: training, concepts, masks, and the report of them.

Each stage knows from ``discover.json`` and from its files whether it is whole, and continues if it is not.
"""

import hashlib
import json
import logging
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from slotseg import amounts
from slotseg.concepts.collection import Collection, ConceptFiles, read_concepts
from slotseg.concepts.show import show_concepts
from slotseg.data.finding.inputs import Inputs
from slotseg.data.reading.georeference import TURNED
from slotseg.discovery.discovery_page import Report, examples, write_report
from slotseg.discovery.record import DiscoveryRecord, Stage
from slotseg.files import read_json_lines, writing
from slotseg.labels.label_map import LabelMap
from slotseg.labels.naming import Naming
from slotseg.painting.outputs import OutputOptions, Outputs
from slotseg.painting.paint import NO_PLACE, paint
from slotseg.painting.render import save_picture
from slotseg.runs import checkpoint
from slotseg.runs.folder import RunFolder
from slotseg.runs.record import read_run
from slotseg.runs.results import read_results
from slotseg.segment_config import ReadingConfig
from slotseg.segmenting.segmenter import Segmenter
from slotseg.training.launch import Plan, planned_training, resumed_training
from slotseg.values import from_dict
from slotseg.watching.diagnosis import diagnose
from slotseg.watching.run_page import decoder_sentence, reading_sentences, weights_sentence, write_run_page

log = logging.getLogger(__name__)

PRESET = "photos"


def run_in(output: Path) -> RunFolder:
    """The run of a discovery."""
    return RunFolder(output / "run")


def outputs_of(inputs: Inputs, output: Path, *, geotiff: bool) -> Outputs:
    """The masks of a discovery, as GeoTIFF too if ``geotiff``, and what lies beside them."""
    return Outputs(inputs, output / "masks", OutputOptions(overlay=True, legend=True, geotiff=geotiff))


@dataclass(frozen=True, kw_only=True)
class Labelling:
    """Concepts that were found, and the labels that masks are painted with."""

    collection: Collection
    """Concepts and the checkpoint that they come from."""
    labels: LabelMap
    """Label map with names, or with the numbers of prototypes."""

    @property
    def checkpoint(self) -> str:
        """Start of the SHA-256 of the trained checkpoint."""
        return self.collection.checkpoint

    @property
    def digest(self) -> str:
        """Digest of checkpoint and labels, by which masks made with others are recognised."""
        labels = {**self.labels.to_dict(), "source": None}
        return f"{self.checkpoint} {hashlib.sha256(json.dumps(labels).encode()).hexdigest()[:16]}"


class Stages:
    """Runs the stages of a discovery. A stage that is whole returns at once.

    Args:
        record: Record of the discovery.
        inputs: Photos of the discovery.
        naming: Names to paint with, if a person has given any.
        device: Device, as in ``slotseg.devices.resolve_device``.
        workers: Number of loader processes; None chooses.
        plan: Training to begin. None if the run has been begun.
    """

    def __init__(
        self,
        record: DiscoveryRecord,
        inputs: Inputs,
        naming: Naming | None,
        device: str,
        workers: int | None,
        plan: Plan | None = None,
    ) -> None:
        self.record, self.inputs, self.naming, self.device, self.workers = record, inputs, naming, device, workers
        self.plan = plan
        self.run = run_in(record.path)
        self.concepts = ConceptFiles(folder=record.path / "concepts")
        self.outputs = outputs_of(inputs, record.path, geotiff=record.geotiff)

    def left(self) -> list[str]:
        """Words for each stage that is left, with the time that it will take."""
        labelling = self._labelling()
        masks = self._masks_left(labelling) if labelling else 1.0
        shares = {**self._training_left(), "concepts": float(labelling is None), "masks": masks}
        return [
            f"{stage} {amounts.about_duration(share * self.record.stages[stage].expected_seconds)}"
            for stage, share in shares.items()
            if share
        ]

    def train(self) -> None:
        """Train the run, or continue it."""
        if self._trained:
            return
        decoder = self.record.stages.get("decoder")
        with self.record.working("training") as stage:
            if self.run.last.is_file():
                trainer = resumed_training(self.run.path, device=self.device, workers=self.workers)
            else:
                assert self.plan is not None
                trainer = planned_training(self.plan, out=self.run.path, device=self.device, workers=self.workers)
            try:
                trainer.train()
            finally:
                if decoder:
                    decoder.seconds += trainer.decoder_seconds
                    stage.seconds -= trainer.decoder_seconds
            stage.num_failures, stage.whole = len(trainer.journal.unreadable), True
            if decoder:
                decoder.whole = True

    def find_concepts(self) -> Labelling:
        """Look at all photos for the best segments of each concept, and choose the labels to paint with."""
        if labelling := self._labelling():
            return labelling
        log.info("Looking at %d photos for the best segments of each concept", self.record.num_photos)
        with self.record.working("concepts") as stage:
            _begin_stage(stage, checkpoint.digest(self.run.last))
            shown = show_concepts(
                self.run.last,
                self.inputs,
                self.concepts,
                run=self.record.path.resolve().name,
                naming=self.naming,
                figure_of=(),
                total=self.record.num_photos,
                device=self.device,
                overwrite=True,
            )
            assert shown.figure is not None
            save_picture(self.concepts.figure, shown.figure.image)
            self.record.figure, self.record.figure_cells = shown.figure.ids, shown.figure.cells
            stage.num_failures, stage.whole = shown.num_failures, True
        return self._labels_of(shown.collection)

    def paint(self, labelling: Labelling) -> None:
        """Paint all photos. Masks with other names, or of an earlier state of the run, are painted anew."""
        if not self._masks_left(labelling):
            return
        words = f"the names of {self.naming.where}" if self.naming else "the numbers of prototypes"
        log.info("Painting %d photos with %s", self.record.num_photos, words)
        stage = self.record.stages["masks"]
        if stage.made_of != labelling.digest:
            self._remove_masks()
            _begin_stage(stage, labelling.digest)
            self.record.write()
        if self.naming:
            self.naming.warn_of_another_run(labelling.checkpoint)
        with self.record.working("masks"):
            segmenter = Segmenter.load(self.run.last, labels=labelling.labels, device=self.device, precision="auto")
            painted = paint(segmenter, self.outputs, skip_existing=True)
            for note, (count, first) in painted.notes.items():
                if note in (NO_PLACE, TURNED):
                    log.warning("%s: %s", amounts.among_photos(count, first), note)
            stage.num_failures, stage.whole = len(painted.failures), True

    def report(self, labelling: Labelling) -> Path:
        """Write the page of the run and the report, and return the report's file."""
        run = read_run(self.run.path)
        findings = diagnose(run.lines, run.config)
        write_run_page(self.run.path / "report.html", run, findings, overwrite=True)
        file = self.record.path / "index.html"
        report = Report(
            record=self.record,
            collection=labelling.collection,
            labels=labelling.labels,
            naming=self.naming,
            figure=self.concepts.figure,
            examples=examples(self.outputs, from_dict(ReadingConfig, run.config.get("reading", {}))),
            failures=[str(line.get("error", "")) for line in read_json_lines(self.outputs.failures)],
            findings=findings,
            weights=weights_sentence(run),
            learned=decoder_sentence(run),
            read=reading_sentences(run),
            scores=[of.sentence() for of in read_results(self.run.last, labelling.labels.num_prototypes)],
        )
        write_report(file, report)
        return file

    def _labelling(self) -> Labelling | None:
        """Concepts and labels, or None as long as training or concepts are not whole."""
        stage, files = self.record.stages["concepts"], self.concepts
        if not self._trained or not stage.whole or stage.made_of != checkpoint.digest(self.run.last):
            return None
        if not all(file.is_file() for file in (files.page, files.data, files.figure)):
            return None
        collection = read_concepts(files.data)
        known = set(self.record.figure) <= set(range(len(collection.concepts)))  # else the record was damaged
        return self._labels_of(collection) if known else None

    def _labels_of(self, collection: Collection) -> Labelling:
        number = len(collection.concepts)
        labels = self.naming.label_map(number) if self.naming else LabelMap.prototypes(number)
        return Labelling(collection=collection, labels=labels)

    @property
    def _trained(self) -> bool:
        """Whether the training is over."""
        return not any(self._training_left().values())

    def _training_left(self) -> dict[str, float]:
        """Share of its steps that each stage of the training has left to do."""
        known = [name for name in ("training", "decoder") if name in self.record.stages]
        if not self.run.last.is_file():
            return dict.fromkeys(known, 1.0)
        header = checkpoint.read_header(self.run.last)
        done, total = int(header["step"]), int(header["total_steps"])
        if "decoder" not in known:  # a run may have got one later
            return {"training": _left(done, total)}
        of_decoder, steps = int(header.get("decoder_step", 0)), int(header["config"]["decoder"]["steps"])
        return {"training": _left(done - of_decoder, total - steps), "decoder": _left(of_decoder, steps)}

    def _masks_left(self, labelling: Labelling) -> float:
        """Share of the photos that are left to paint."""
        stage = self.record.stages["masks"]
        if stage.made_of != labelling.digest:
            return 1.0
        number = self.record.num_photos
        found = self.outputs.survey()
        missing = number - found.num_masks
        whole = stage.whole and missing <= stage.num_failures and not found.num_lacking
        whole = whole and self.outputs.legend.is_file()
        return 0.0 if whole else max(missing, 1) / number

    def _remove_masks(self) -> None:
        """Remove what was painted with other names, and nothing else."""
        files = (self.outputs.files(item) for item in self.inputs if not item.problem)
        with writing(self.outputs.folder):
            for file in chain(*((*of_photo, *of_photo.sidecars) for of_photo in files), self.outputs.common):
                file.unlink(missing_ok=True)


def _left(done: int, total: int) -> float:
    return 1 - min(1.0, done / total) if total else 0.0


def _begin_stage(stage: Stage, made_of: str) -> None:
    stage.made_of, stage.whole, stage.seconds = made_of, False, 0.0
