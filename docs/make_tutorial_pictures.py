"""Draw the pictures of docs/tutorial.md: run its blocks in turn; each picture is what the block above it drew.

python docs/make_tutorial_pictures.py
"""

import re
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib import pyplot

DOCS = Path(__file__).parent
PART = re.compile(r"```python\n(?P<code>.*?)```|!\[.*?\]\((?P<picture>pictures/.*?)\)", re.DOTALL)


def main() -> None:
    """Run the blocks, and save the current figure wherever a picture follows one."""
    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "inkproof"  # the same picture gives the same file
    names: dict[str, Any] = {}
    for part in PART.finditer((DOCS / "tutorial.md").read_text(encoding="utf-8")):
        if part["code"]:
            exec(compile(part["code"], "tutorial.md", "exec"), names)
        elif pyplot.get_fignums():
            pyplot.gcf().savefig(DOCS / part["picture"], bbox_inches="tight", metadata={"Date": None})
            pyplot.close("all")


if __name__ == "__main__":
    main()
