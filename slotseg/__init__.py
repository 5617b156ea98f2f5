"""Unsupervised semantic segmentation with SlotCon."""

__version__ = "0.1.0"
