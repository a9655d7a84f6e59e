"""Sentences to the user, beside the output."""

from __future__ import annotations


def say(text: str, colour: str) -> None:
    """Print a sentence where errors go."""
    from rich.console import Console

    Console(stderr=True).print(f"[{colour}]oblivio:[/] ", end="")
    Console(stderr=True, soft_wrap=True).print(text, markup=False, highlight=False)
