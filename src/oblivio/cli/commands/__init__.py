"""The commands: a file each, called like it, with a function `command`."""
