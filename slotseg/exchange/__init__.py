"""Weights from others and for others: pretrained backbones, published checkpoints, exports, ONNX."""
