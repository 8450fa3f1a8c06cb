"""What the programs say they are, and what their files are called."""

VERSION, FORMAT = "1.17.0-dev", "11.0.0"  # of Firecracker, and of its snapshots
FAULTS = "faults.json"
