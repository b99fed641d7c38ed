"""`python -m inkproof`: the same as the command `inkproof`."""

import sys

from inkproof.cli import main

if __name__ == "__main__":
    sys.exit(main())
