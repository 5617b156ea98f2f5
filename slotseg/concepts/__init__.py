"""What a run has found: concepts with their best segments, the page to name them on, names carried along."""
