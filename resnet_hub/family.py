"""`python -m resnet_hub.family`: the command of `resnet_hub.lab.family`."""

import sys

from resnet_hub.lab.family import main

if __name__ == "__main__":
    sys.exit(main())
