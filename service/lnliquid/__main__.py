"""`python -m lnliquid` is the same as the `lnliquid` command."""

from lnliquid.cli import main

main()
