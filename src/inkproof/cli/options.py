"""What several commands take: the types of their options, and the options they share."""

from pathlib import Path
from typing import Any

import click

from inkproof.startup import import_torch


class TorchCommand(click.Command):
    """A command that computes: torch is imported when it runs, and not for its help."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run it."""
        import_torch()  # sooner than what the command imports from here on would
        return super().invoke(ctx)


class Size(click.ParamType[float]):
    """A share below 1 or a whole number of images."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number, whole where it counts images."""
        try:
            size = float(value)
        except ValueError:
            size = -1.0
        if size < 0 or (size >= 1 and not size.is_integer()):
            self.fail(f"{value!r} is neither a share below 1 nor a whole number of images", param, ctx)
        return size


class Classes(click.ParamType[tuple[str, ...]]):
    """Class names with commas between."""

    name = "names"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """A tuple of the names."""
        if isinstance(value, tuple):
            return value
        names = tuple(part.strip() for part in value.split(","))
        if len(names) < 2 or "" in names or len(set(names)) != len(names):
            self.fail(f"{value!r}: give two or more different class names, for instance 3,7", param, ctx)
        return names


class Names(click.ParamType[tuple[str, ...]]):
    """Names with commas between."""

    name = "names"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """A tuple of them."""
        return value if isinstance(value, tuple) else tuple(part.strip() for part in value.split(",") if part.strip())


class Shape(click.ParamType[tuple[int, int, int]]):
    """28x28 or 3x32x32."""

    name = "shape"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int, int]:
        """(channels, height, width)."""
        if isinstance(value, tuple):
            return value
        parts = value.lower().split("x")
        if len(parts) not in (2, 3) or not all(part.isdigit() and int(part) > 0 for part in parts):
            self.fail(f"{value!r}: give height x width or channels x height x width, for instance 28x28", param, ctx)
        channels, height, width = (int(part) for part in (["1", *parts] if len(parts) == 2 else parts))
        return channels, height, width


class Picture(click.Path):
    """A picture to write, of a kind that its ending names."""

    name = "picture"
    endings = (".png", ".jpg", ".svg", ".pdf")

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """The path."""
        if Path(value).suffix.lower() not in self.endings:
            self.fail(f"{value!r}: the name must end in one of {', '.join(self.endings)}", param, ctx)
        return Path(value)


json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
shape_option = click.option("--shape", type=Shape(), help="Size of the images where the source does not say: 28x28.")
no_cache_option = click.option("--no-cache", is_flag=True, help="Neither read nor keep a converted copy of a CSV file.")
device_option = click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
allow_option = click.option("--allow", multiple=True, metavar="ID", help="Let a finding of this id pass; repeatable.")
tta_option = click.option("--tta", is_flag=True, help="Average over each image and its shifts by one pixel.")
