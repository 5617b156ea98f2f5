"""The paper: SlotCon from backbone to losses, to be read beside docs/method.md; merging alone is ours."""
