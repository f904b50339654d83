"""The command `diffusion-serve`: parses arguments and hands each subcommand to the module that does it.

A subcommand's module is imported only when that subcommand runs, so that none of them waits for another's libraries.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from serve_app.files import FileProblem

# the subcommands' modules have add_arguments(parser) and run(args) -> exit status
MODULES = {
    "check": ("serve_app.check", "validate a deployments file strictly"),
    "usage": ("serve_app.ledger", "sum the ledger by caller, model and day"),
    "render": ("serve_app.render", "write serveConfigV2 of a RayService from a deployments file"),
    "settings": ("serve_app.reference", "print every key of a deployments file's args with its default and meaning"),
    "up": ("serve_app.up", "serve from command-line options, Dynamo's names for them included"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one subcommand; the exit status is 0, 1 where it found or met a problem, 2 for wrong arguments."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    args = _parser(arguments).parse_args(arguments)
    try:
        return args.run(args)
    except FileProblem as error:
        print(f"diffusion-serve {arguments[0]}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        # Python would first wait for its threads, of which a silent S3 server holds one for half a minute
        os._exit(130)


def _parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="diffusion-serve", description="Serve diffusion models from one OpenAI-compatible endpoint on Ray Serve."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, (module, description) in MODULES.items():
        command = commands.add_parser(name, help=description)
        if name in arguments[:1]:
            implementation = import_module(module)
            implementation.add_arguments(command)
            command.set_defaults(run=implementation.run)
    return parser
