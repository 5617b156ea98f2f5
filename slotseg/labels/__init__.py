"""What prototypes are called: which class each is, names that a person gave, and colours."""
