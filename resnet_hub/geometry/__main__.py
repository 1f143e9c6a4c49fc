"""`python -m resnet_hub.geometry`."""

import sys

from resnet_hub.geometry import main

if __name__ == "__main__":
    sys.exit(main())
