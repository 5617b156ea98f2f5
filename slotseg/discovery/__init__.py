"""From a folder of photos to masks and a report, in three stages that can be interrupted."""
