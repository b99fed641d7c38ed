"""`python -m inkproof`: the same as the command `inkproof`."""

import sys

from inkproof.cli import command

if __name__ == "__main__":
    sys.exit(command())
