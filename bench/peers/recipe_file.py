"""Recipes as the programs here read them: TOML, with the recipe that one begins with (`base = "..."`) below it."""

import tomllib
from pathlib import Path

RECIPES = Path(__file__).resolve().parents[2] / "recipes"


def merged(below, above):
    tables = {key for key in above if isinstance(above[key], dict) and key in below}
    return below | above | {key: merged(below[key], above[key]) for key in tables}


def read(path):
    path = Path(path)
    table = tomllib.loads(path.read_text())
    base = table.pop("base", None)
    if base is None:
        return table
    return merged(read(path.parent / base if base.endswith(".toml") or "/" in base else RECIPES / f"{base}.toml"), table)
