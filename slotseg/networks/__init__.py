"""Networks that the method stands on: a timm model as a dense feature extractor, and the decoder behind it."""
