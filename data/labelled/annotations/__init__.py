"""Annotation files of COCO, CVAT and labelme as label maps, and the legend beside slotseg's own masks."""
