"""From a folder of photos to masks and a report, in four stages that can be interrupted."""
