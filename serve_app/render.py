"""`diffusion-serve render`: the Serve config of a cluster, from the deployments file that runs on a laptop.

A cluster differs from a laptop in a few keys, so a cluster's file holds only those and is laid over deployments.yaml.
The result is checked as `diffusion-serve check` does, then printed as it stands (for `serve deploy`) or inside a
RayService of KubeRay. Knows the shape of these files, not what their keys mean.
"""

import argparse
import sys
from collections.abc import Sequence
from functools import reduce
from pathlib import Path
from typing import Any

import yaml

from serve_app.check import check_config
from serve_app.files import read_yaml, write
from serve_app.profiles import laid_over


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `diffusion-serve render`."""
    parser.add_argument(
        "files", type=Path, nargs="+", metavar="FILE", help="a deployments file, then files with the keys that differ"
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--patch", metavar="NAME", help="as a patch of the RayService of that name, for kustomize")
    form.add_argument(
        "--rayservice", type=Path, metavar="FILE", help="as this RayService manifest with the config in it"
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="write there instead of to the terminal")


def run(args: argparse.Namespace) -> int:
    """Prints or writes the rendered config; 1 where it has problems, which go to standard error."""
    config = merged([read_yaml(path) for path in args.files])
    if not check_config(config).tell():
        return 1
    text = made_by(args) + _rendered(args, config)
    if args.output is None:
        sys.stdout.write(text)
    else:
        write(args.output, text)
    return 0


def made_by(args: argparse.Namespace) -> str:
    """The comment that says how to make the file again; a test runs the command that it names."""
    words = ["diffusion-serve", "render", *(str(path) for path in args.files)]
    words += ["--patch", args.patch] if args.patch else []
    words += ["--rayservice", str(args.rayservice)] if args.rayservice else []
    words += ["--output", str(args.output)] if args.output else []
    return f"# Made by: {' '.join(words)}\n# Edit those files and run that again.\n"


def merged(configs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Later files laid over earlier ones: mappings key by key, lists of named items by name, all else replaced."""
    return reduce(laid_over, configs, {})


def dump(value: object) -> str:
    """YAML in the order of the keys, multi-line strings as blocks."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=True)


def _rendered(args: argparse.Namespace, config: dict[str, Any]) -> str:
    filled = {"spec": {"serveConfigV2": dump(config)}}
    if args.patch:  # a RayService that holds nothing but the config, to be merged into the whole one
        return dump({"apiVersion": "ray.io/v1", "kind": "RayService", "metadata": {"name": args.patch}, **filled})
    return dump(laid_over(read_yaml(args.rayservice), filled) if args.rayservice else config)


class _Dumper(yaml.SafeDumper):
    def represent_str(self, data: str) -> yaml.ScalarNode:
        """Lines as a block."""
        return self.represent_scalar("tag:yaml.org,2002:str", data, style="|" if "\n" in data else None)


_Dumper.add_representer(str, _Dumper.represent_str)
