"""What a test compiles depends on nothing that ran before."""

import os

os.environ["LAMPWORK_REMEMBER"] = "0"
