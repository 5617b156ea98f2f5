"""Networks that the method stands on: a timm model as a feature extractor, the decoder behind it, valid cells."""
