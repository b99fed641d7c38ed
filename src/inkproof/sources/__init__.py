"""Sources: where images come from. One file a source; `open_images` picks it."""

from inkproof.sources.opening import NAMED, open_images, open_one
from inkproof.sources.stored import save_images

__all__ = ["NAMED", "open_images", "open_one", "save_images"]
