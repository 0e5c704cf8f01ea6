"""`python -m eagleray_runtime.training`."""

import sys

from eagleray_runtime.training.driver import main

sys.exit(main())
