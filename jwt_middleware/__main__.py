"""``python -m jwt_middleware``."""

import sys

from .cli import main

sys.exit(main())
