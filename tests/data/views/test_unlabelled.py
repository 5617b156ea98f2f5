"""The training sets in the layouts that people have on disk; what is missing is said at once."""

import pytest

from slotseg.data.views.unlabelled import DATASETS, NO_PHOTOS, NUM_PHOTOS, Photos, photo_folders
from slotseg.errors import ConfigError, DataError

TRAIN, UNLABELLED = "train2017/000000000009.jpg", "unlabeled2017/000000000008.jpg"
IMAGENET = "n01440764/n01440764_10026.JPEG"


def make(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


@pytest.mark.parametrize(
    ("name", "files", "folders"),
    [
        ("coco", [TRAIN, UNLABELLED], ["train2017"]),
        ("coco", [f"images/{TRAIN}"], ["images/train2017"]),
        ("cocoplus", [TRAIN, UNLABELLED], ["train2017", "unlabeled2017"]),
        ("cocoplus", [f"images/{TRAIN}", f"images/{UNLABELLED}"], ["images/train2017", "images/unlabeled2017"]),
        ("imagenet", [f"train/{IMAGENET}", f"val/{IMAGENET}"], ["train"]),
        ("imagenet", [f"ILSVRC/Data/CLS-LOC/train/{IMAGENET}"], ["ILSVRC/Data/CLS-LOC/train"]),
        ("imagenet", [f"Data/CLS-LOC/train/{IMAGENET}"], ["Data/CLS-LOC/train"]),
        ("imagenet", [IMAGENET], ["."]),
        ("imagenet", ["train/cat/1.jpg", IMAGENET], ["."]),
    ],
)
def test_every_layout(tmp_path, name, files, folders):
    make(tmp_path, *files)
    assert photo_folders(name, tmp_path) == [tmp_path / folder for folder in folders]


@pytest.mark.parametrize(
    ("name", "files", "lines"),
    [
        ("coco", ["train2017/notes.txt"], ["train2017/*.jpg (missing)", "images/train2017/*.jpg (missing)"]),
        (
            "cocoplus",
            [TRAIN, f"images/{UNLABELLED}"],
            [
                "train2017/*.jpg, unlabeled2017/*.jpg (missing)",
                "images/train2017/*.jpg (missing), images/unlabeled2017/*.jpg",
            ],
        ),
        (
            "imagenet",
            ["train/notebooks/1.jpg", "n01440764.tar"],
            [
                f"{folder}n01440764/ (missing)"
                for folder in ("train/", "ILSVRC/Data/CLS-LOC/train/", "Data/CLS-LOC/train/", "")
            ],
        ),
    ],
)
def test_says_everything_that_would_do_and_what_is_missing(tmp_path, name, files, lines):
    make(tmp_path, *files)
    with pytest.raises(DataError) as error:
        photo_folders(name, tmp_path)
    first, *others = str(error.value).splitlines()
    assert first == f"{name} is not in {tmp_path}; expected one of these, of which every path is needed:"
    assert others == [f"  {line}" for line in lines]


def test_refuses_what_is_no_folder_and_no_set(tmp_path):
    with pytest.raises(DataError, match=r"gone is not a folder; expected the folder of coco, see --data-dir"):
        photo_folders("coco", tmp_path / "gone")
    with pytest.raises(ConfigError, match=r"unknown data set 'voc'; expected one of coco, cocoplus, imagenet"):
        photo_folders("voc", tmp_path)


def test_the_published_counts():
    assert DATASETS == ("coco", "cocoplus", "imagenet")
    assert NUM_PHOTOS["cocoplus"] == 241_690


def test_photos_are_files_and_folders_or_those_of_a_set(tmp_path):
    make(tmp_path, TRAIN)
    assert Photos([tmp_path]).folders() == [tmp_path]
    assert Photos(dataset="coco", data_dir=tmp_path).folders() == [tmp_path / "train2017"]
    assert list(NO_PHOTOS.folders()) == []
    assert [bool(p) for p in (Photos([tmp_path]), Photos((), "coco", tmp_path), NO_PHOTOS)] == [True, True, False]


@pytest.mark.parametrize(
    "words", [((), "coco", None), ((), None, "folder"), (("photos",), "coco", "folder"), (("photos",), None, "folder")]
)
def test_photos_that_contradict_each_other_are_refused(words):
    with pytest.raises(ConfigError, match="--dataset and --data-dir go together and replace PHOTOS; expected both"):
        Photos(*words)
