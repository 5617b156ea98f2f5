"""Views for training: photos without labels, two crops of each, and their colours."""
