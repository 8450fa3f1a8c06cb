"""Attempts to leave a sandbox: a list of programs that run inside it, and what is tried on it from outside."""
