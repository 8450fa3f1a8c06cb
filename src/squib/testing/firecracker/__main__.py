"""`python -m squib.testing.firecracker …` is Firecracker's own command line."""

import sys

from squib.testing.firecracker.vmm import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
