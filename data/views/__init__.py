"""What training draws: photos without labels, two crops of each, and their colours."""
