"""``python -m lnlab`` is the ``lnlab`` command."""

from lnlab.cli import main

if __name__ == "__main__":
    main()
