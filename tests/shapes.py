"""What checks the package's annotations, shapes and types alike, while tests run."""

from beartype import BeartypeConf, beartype

# Of a container the first item is looked at, not a random one: checks must not draw random numbers.
# A whole number is a number, as PEP 484 has it.
checked = beartype(conf=BeartypeConf(is_random=False, is_pep484_tower=True))
