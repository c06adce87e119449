"""python -m drigm"""

import sys

from drigm.cli.main import main

sys.exit(main())
