"""python -m drigm"""

import sys

from drigm.cli import main

sys.exit(main())
