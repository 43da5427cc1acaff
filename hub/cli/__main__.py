"""`python -m hub.cli` is `curbstop`."""

from hub.cli import main

main()
