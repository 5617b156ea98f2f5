"""The demo: train on the built-in scenes, score on held-out ones beside colour k-means, and paint some."""

import shutil
from pathlib import Path

from slotseg.data.labelled.labelled import LabelledScenes
from slotseg.data.views.unlabelled import Photos
from slotseg.errors import ConfigError
from slotseg.eval.baselines import baseline_predictor
from slotseg.eval.benchmark import Benchmark
from slotseg.eval.evaluate import evaluate
from slotseg.eval.keeping import keep_match, keep_result
from slotseg.eval.predictors import run_predictor
from slotseg.eval.report import result_table
from slotseg.files import write_bytes, write_json
from slotseg.labels.label_map import LabelMap
from slotseg.painting.render import colored, contact_sheet, overlay, save_legend, save_mask, save_picture
from slotseg.segmenting.segmenter import Segmenter
from slotseg.training.launch import new_training

NUM_PAINTED = 8


def run_demo(folder: Path, *, seed: int = 0, overwrite: bool = False, device: str = "auto") -> str:
    """Train, score and paint below ``folder``. Return the table, and a line that says where the pictures are.

    Writes ``run/`` (a training run), ``masks/`` (indexed PNGs), ``sheet.png`` (scene, truth, ours),
    ``table.txt`` and ``results.json``.

    Raises:
        ConfigError: If the folder is not empty and ``overwrite`` is not set.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        if not overwrite or not (folder / "run" / "config.json").is_file():
            raise ConfigError(f"{folder} is not empty; expected another --output, or --overwrite for an earlier demo")
        shutil.rmtree(folder / "run")
    trainer = new_training(Photos(), {"seed": seed}, out=folder / "run", device=device)
    trainer.train()
    scenes = LabelledScenes()
    benchmark = Benchmark.of(scenes)
    ours = evaluate(run_predictor(benchmark, checkpoint=trainer.run.path, device=device), benchmark)
    keep_match(ours, trainer.run.path)
    keep_result(ours, trainer.run.path)
    results = {
        "slotseg": ours,
        "colour k-means": evaluate(baseline_predictor("colour", benchmark, seed=seed), benchmark),
    }
    _paint(Segmenter.load(trainer.run.path, device=device), scenes, folder)
    table = result_table(results)
    write_bytes(folder / "table.txt", f"{table}\n".encode())
    write_json(folder / "results.json", {name: result.to_dict() for name, result in results.items()})
    return f"{table}\n\nThe pictures: {folder / 'sheet.png'}, {folder / 'masks'}"


def _paint(segmenter: Segmenter, scenes: LabelledScenes, folder: Path) -> None:
    truth = LabelMap.of_classes(scenes.taxonomy.names, scenes.taxonomy.colors)
    rows = []
    for index in range(NUM_PAINTED):
        scene = scenes.read(index)
        class_map = segmenter(scene.image).class_map
        save_mask(folder / "masks" / f"{scene.key}.png", class_map, segmenter.labels)
        painted = overlay(scene.image, class_map, segmenter.labels)
        rows.append([scene.image, painted, colored(class_map, segmenter.labels), colored(scene.class_map, truth)])
    half = NUM_PAINTED // 2
    pairs = [left + right for left, right in zip(rows[:half], rows[half:], strict=True)]
    titles = ["scene", "overlay", "mask", "truth"] * 2
    save_legend(folder / "masks" / "legend.json", segmenter.labels)
    save_picture(folder / "sheet.png", contact_sheet(pairs, titles, segmenter.labels))
