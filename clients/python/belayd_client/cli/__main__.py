"""`python -m belayd_client.cli` is belayctl."""

import sys

from belayd_client.cli.main import main

sys.exit(main())
