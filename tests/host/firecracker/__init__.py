"""Firecracker, as its host sees it."""
