"""One suite for the guest's HTTP contract, run over every driver."""
