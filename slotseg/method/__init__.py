"""The paper: SlotCon from backbone to losses, to be read beside docs/method.md. Ours: ``merging``, ``EdgeConv2d``."""
