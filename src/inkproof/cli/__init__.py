"""The commands: parse, call, print. What they do stands elsewhere; heavy imports happen inside them."""

import sys
import warnings

import click

from inkproof import console
from inkproof.cli.auditing import audit, findings
from inkproof.cli.climbing import ladder
from inkproof.cli.comparing import compare
from inkproof.cli.predicting import predict, submit
from inkproof.cli.showing import recipes, show
from inkproof.cli.training import find_lr, train
from inkproof.cli.verifying import verify
from inkproof.errors import AuditWarning, InkproofError, Interrupted
from inkproof.startup import end_with_python

_EXIT_USAGE = 2
_EXIT_INTERNAL = 70


def command() -> int:
    """Run what this process was started for; it then ends as soon as Python has."""
    code = main()
    end_with_python()
    return code


def main(arguments: list[str] | None = None) -> int:
    """Run a command; every error becomes one line and an exit code.

    Returns:
        0 done, 1 a refused audit, 2 usage or input, 130 interrupted, 70 an internal error.
    """
    try:
        result = cli.main(args=arguments, prog_name="inkproof", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except InkproofError as error:
        console.print_error(str(error))
        return error.exit_code
    except click.ClickException as error:
        usage = f" (try: {error.ctx.command_path} --help)" if isinstance(error, click.UsageError) and error.ctx else ""
        console.print_error(f"{error.format_message()}{usage}")
        return _EXIT_USAGE
    except (click.Abort, KeyboardInterrupt):
        console.say("interrupted")
        return Interrupted.exit_code
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output went away: nothing is left to say to it
        return 0
    except OSError as error:
        if error.filename is None:
            return _internal_error(error)
        console.print_error(f"{error.filename}: {error.strerror}")
        return _EXIT_USAGE
    except Exception as error:
        return _internal_error(error)


def _internal_error(error: Exception) -> int:
    import traceback

    traceback.print_exception(error)
    console.print_error("this is a mistake in inkproof: please report it with the lines above and the command")
    return _EXIT_INTERNAL


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="inkproof")
def cli() -> None:
    """Train classifiers for handwritten digits and other small images: audited, measured, provable.

    A SOURCE is one of digits, mnist, fashion-mnist, or a path: a Kaggle CSV, a directory of IDX files, a folder of
    images, an .npz file. `mnist:test` names one part of a source that has several.
    """
    # Findings are shown by `print_findings`, in the place where a reader of the command looks for them.
    warnings.simplefilter("ignore", AuditWarning)


for _command in (train, ladder, find_lr, show, predict, submit, audit, findings, compare, verify, recipes):
    cli.add_command(_command)
