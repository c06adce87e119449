"""The demo, by its public name: ``python -m drigm.demo``."""

import sys

from drigm.experiments.demo import main

if __name__ == "__main__":
    sys.exit(main())
