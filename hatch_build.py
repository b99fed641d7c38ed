"""Compiles inkproof's kernels where there is a C compiler for x86-64; elsewhere the package is complete, and slower.

`python hatch_build.py` compiles them in a checkout, for who runs inkproof from its source.
"""

import hashlib
import os
import shlex
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

FOLDER = "src/inkproof/kernels"
LIBRARY = f"{FOLDER}/kernels.compiled"
OPTIONS = ["-O3", "-std=gnu11", "-fPIC", "-mavx2", "-mfma", "-ffp-contract=fast"]


def compile_kernels(root: Path) -> bool:
    """Put the library beside its sources, with threads where the compiler knows OpenMP; whether it could be made.

    The library is linked with no OpenMP of its own: it takes the one that torch has loaded, since threads of two wait
    in each other's way.

    Args:
        root: of the checkout. $CC, else `cc`, is the compiler.
    """
    compiler = shlex.split(os.environ.get("CC") or "cc")
    (root / LIBRARY).unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        objects = {source: str(Path(folder) / f"{source.stem}.o") for source in sorted((root / FOLDER).glob("*.c"))}
        digest = hashlib.sha256(b"".join(source.read_bytes() for source in objects)).hexdigest()[:16]
        link = [*compiler, "-shared", *objects.values(), "-o", str(root / LIBRARY)]
        for threads in (["-fopenmp"], []):
            options = [*OPTIONS, *threads, f'-DMADE_OF="{digest}"']
            compiling = ([*compiler, *options, "-c", str(one), "-o", to] for one, to in objects.items())
            if all(map(_succeeds, (*compiling, link))):
                return True
    return False


def _succeeds(command: list[str]) -> bool:
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True)
    except OSError as error:  # there is no such compiler
        print(error, file=sys.stderr)
        return False
    print(done.stderr, end="", file=sys.stderr)
    return done.returncode == 0


try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # run as a script
    pass
else:

    class CompileKernels(BuildHookInterface):
        """Compiles for a wheel as for an editable installation."""

        def initialize(self, version: str, build_data: dict[str, object]) -> None:
            """Compile, and say that the wheel is for this platform alone."""
            if compile_kernels(Path(self.root)):
                build_data["artifacts"] = [LIBRARY]
                build_data["pure_python"] = False
                build_data["tag"] = f"py3-none-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"


if __name__ == "__main__":
    sys.exit(not compile_kernels(Path(__file__).parent))
