"""Starting quickly: what the garbage collector need not look at.

torch makes hundreds of thousands of objects when it is imported, and they live as long as the process. Looking for
garbage among them, while they are made and once more when the interpreter ends, takes a third of the processor time of
`python -c "import torch"`: 1.28 s, and 0.86 s without (2 cores of an AMD EPYC, November 2026).
"""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collector_at_rest() -> Iterator[None]:
    """Inside the block, in which torch is imported for the first time, no garbage is looked for.

    Afterwards the collector leaves alone what was there at the end of the block (`gc.freeze`, which `gc.unfreeze`
    undoes), and is on where it was on before. Where torch is there already, nothing of this is done.
    """
    if "torch" in sys.modules or not gc.isenabled():
        yield
        return
    gc.collect()  # what is garbage now must not be kept with the rest
    gc.disable()
    try:
        yield
    finally:
        if "torch" in sys.modules:
            gc.freeze()
        gc.enable()
