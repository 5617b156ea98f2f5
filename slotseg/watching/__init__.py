"""How a run goes: measures of collapse, what they say in words, curves, previews and the page of a run."""
