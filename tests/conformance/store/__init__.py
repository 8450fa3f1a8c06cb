"""One suite for the store, run over both databases."""
