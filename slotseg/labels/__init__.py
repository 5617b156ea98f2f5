"""Labels of prototypes: the class of each, names that a person gave, and colours."""
