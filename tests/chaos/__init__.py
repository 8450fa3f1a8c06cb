"""squib killed at random, again and again: what it promised must hold all the same."""
