"""One suite for the queue protocol, run over every queue and database."""
