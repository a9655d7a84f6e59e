"""What checks the package's annotations, shapes and types alike, while tests run."""

from beartype import BeartypeConf, beartype

# Looking at a container's first item instead of a random one: checks must not draw random numbers.
checked = beartype(conf=BeartypeConf(is_random=False))
