"""What scoring reads: photos with labels, label sets, and where the sets of the field lie on disk."""
