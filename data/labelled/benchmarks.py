"""The labelled sets of the field by name: where their photos and label maps lie on disk.

The taxonomy of a set gives its ids their meaning. ``slotseg.eval.protocols`` fixes how it is scored.
"""

from dataclasses import dataclass, replace
from pathlib import Path

from slotseg.data.finding.walk import IMAGE_SUFFIXES
from slotseg.data.labelled.coco import check_not_shifted
from slotseg.data.labelled.image_lists import ImageList, curated_list, read_image_list
from slotseg.data.labelled.label_sources import LabelFiles, TrainIdFiles
from slotseg.data.labelled.labelled import LabelledPhotos
from slotseg.data.labelled.layouts import TRAIN_IDS, FileLayout, JsonLayout, Layout, PanopticLayout, find_layout
from slotseg.data.labelled.taxonomy import load_taxonomy

WHOLE = "all"
"""Split of a set that has no parts."""

_BOTH = ("{split}", "images/{split}")  # where people have COCO's photos
_STUFF_PLACES = tuple((i, f"{t}/{{split}}") for t in ("stuffthingmaps", "annotations") for i in _BOTH)
_STUFF_TRAIN_IDS = tuple(i for c in load_taxonomy("cocostuff171").classes for i in c.ids)
_STUFF: tuple[Layout, ...] = (
    *(FileLayout(images=i, labels=m) for i, m in _STUFF_PLACES),
    *(FileLayout(images=i, labels=i) for i in _BOTH),
    *(FileLayout(images=i, labels=m, label_suffix=TRAIN_IDS, train_ids=_STUFF_TRAIN_IDS) for i, m in _STUFF_PLACES),
    *(JsonLayout(images=i) for i in _BOTH),
)
_PANOPTIC: tuple[Layout, ...] = tuple(
    PanopticLayout(images=i, masks=m) for m in ("annotations/panoptic_{split}", "panoptic_{split}") for i in _BOTH
)
_CITYSCAPES = FileLayout(
    images="leftImg8bit/{split}",
    labels="gtFine/{split}",
    image_suffixes=("_leftImg8bit.png",),
    label_suffix="_gtFine_labelIds.png",
)
_CITYSCAPES_19 = replace(
    _CITYSCAPES,
    label_suffix=f"_gtFine{TRAIN_IDS}",
    train_ids=tuple(i for c in load_taxonomy("cityscapes19").classes for i in c.ids),
    train_void=0,
)
_NOT_27 = replace(
    _CITYSCAPES_19, refused="train ids have 19 of the 27 classes; expected --dataset cityscapes19 for them"
)
_PLAIN_SPLIT = FileLayout(images="images/{split}", labels="labels/{split}", image_suffixes=IMAGE_SUFFIXES)
_PLAIN = FileLayout(images="images", labels="labels", image_suffixes=IMAGE_SUFFIXES)
_MSRC: tuple[Layout, ...] = (
    _PLAIN,
    FileLayout(images="Images", labels="GroundTruth", image_suffixes=(".bmp",), label_suffix="_GT.bmp"),
)
_POTSDAM: tuple[Layout, ...] = (
    _PLAIN,
    *(
        FileLayout(images="2_Ortho_RGB", labels=labels, image_suffixes=("_RGB.tif",), label_suffix="_label.tif")
        for labels in ("5_Labels_all", "5_Labels_for_participants")
    ),
)


@dataclass(frozen=True, kw_only=True)
class LabelledSet:
    """A labelled set of the field, as it was published."""

    taxonomy: str
    """Name of the label set."""
    split: str
    """Split that is scored by default."""
    layouts: tuple[Layout, ...]
    """Layouts on disk, in the order in which they are tried."""
    below: tuple[str, ...] = ()
    """Subfolders of the data folder that are searched too."""
    encoding_checked: bool = False
    """Whether label PNGs are compared with instance annotations that lie beside them."""


SETS = {
    "cocostuff27": LabelledSet(taxonomy="cocostuff27", split="val2017", layouts=_STUFF, encoding_checked=True),
    "cocostuff15": LabelledSet(taxonomy="cocostuff15", split="val2017", layouts=_STUFF, encoding_checked=True),
    "cocostuff171": LabelledSet(taxonomy="cocostuff171", split="val2017", layouts=_STUFF, encoding_checked=True),
    "cocopanoptic27": LabelledSet(taxonomy="cocopanoptic27", split="val2017", layouts=_PANOPTIC),
    "voc": LabelledSet(
        taxonomy="voc21",
        split="val",
        layouts=(
            FileLayout(images="JPEGImages", labels="SegmentationClass", listing="ImageSets/Segmentation/{split}.txt"),
        ),
        below=("VOC2012", "VOCdevkit/VOC2012"),
    ),
    "ade20k": LabelledSet(
        taxonomy="ade150",
        split="validation",
        layouts=(FileLayout(images="images/{split}", labels="annotations/{split}"),),
        below=("ADEChallengeData2016",),
    ),
    "cityscapes27": LabelledSet(taxonomy="cityscapes27", split="val", layouts=(_CITYSCAPES, _NOT_27)),
    "cityscapes19": LabelledSet(taxonomy="cityscapes19", split="val", layouts=(_CITYSCAPES, _CITYSCAPES_19)),
    "camvid": LabelledSet(
        taxonomy="camvid11",
        split="val",
        layouts=(_PLAIN_SPLIT, FileLayout(images="{split}", labels="{split}annot", image_suffixes=(".png",))),
    ),
    "msrc": LabelledSet(taxonomy="msrc23", split=WHOLE, layouts=_MSRC),
    "msrc21": LabelledSet(taxonomy="msrc21", split=WHOLE, layouts=_MSRC),
    "potsdam3": LabelledSet(taxonomy="potsdam3", split=WHOLE, layouts=_POTSDAM),
}
"""The labelled sets by the name that ``slotseg eval --dataset`` takes."""


def open_set(
    name: str,
    data_dir: Path,
    *,
    split: str | None = None,
    curated: bool = False,
    image_list: Path | None = None,
    limit: int | None = None,
) -> LabelledPhotos:
    """Find a set on disk.

    Args:
        name: Name of the set, a key of ``SETS``.
        data_dir: Folder of the data set as it was published.
        split: Split, as the set's folders and files call it; by default the one that papers score.
        curated: Whether to keep only the photos of the curated list, which needs label maps of COCO-Stuff.
        image_list: File with a key a line. If given, only the photos that it names are kept.
        limit: Number of photos, from the first on, that need label maps; by default all.

    Raises:
        DataError: If something is missing, with every path that would do, or if an image list names photos that
            are absent.
        LabelError: If the label maps have another encoding.
    """
    known = SETS[name]
    split = split or known.split
    whole = known.split == WHOLE and split != WHOLE  # a set without splits, parted into folders
    root, layout = find_layout((_PLAIN_SPLIT,) if whole else known.layouts, data_dir, split, name, known.below)
    taxonomy = load_taxonomy(known.taxonomy)
    photos = layout.photos(root, split)
    source = layout.source(root, split, taxonomy, [key for key, _ in photos])
    if known.encoding_checked and isinstance(source, LabelFiles | TrainIdFiles):
        keys = [key for key, _ in photos if not source.missing([key])]
        check_not_shifted(source, root / "annotations" / f"instances_{split}.json", keys)

    def opened(chosen: ImageList | None, limit: int | None = limit) -> LabelledPhotos:
        return LabelledPhotos(
            name=name,
            split=split,
            taxonomy=taxonomy,
            photos=photos,
            source=source,
            image_list=chosen,
            limit=limit,
        )

    if image_list:
        return opened(read_image_list(image_list, dict(photos)))
    if isinstance(layout, FileLayout) and layout.listing:
        return opened(ImageList.of(read_image_list(root / layout.listing.format(split=split)).keys))
    if curated:
        return opened(curated_list(split, opened(None, None).image_list.keys, source.read, root))
    return opened(None)
