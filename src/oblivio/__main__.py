"""`python -m oblivio` is `oblivio`."""

from oblivio.cli import main

main()
