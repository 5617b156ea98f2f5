"""Weights from others and for others: pretrained backbones, published checkpoints, exports, ONNX.

The room is large because each format of others has a file here, and no other room knows them.
"""
