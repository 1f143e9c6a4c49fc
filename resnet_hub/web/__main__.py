"""`python -m resnet_hub.web MODEL OUT`: the command of `resnet_hub.web.write`."""

import sys

from resnet_hub.web.write import main

if __name__ == "__main__":
    sys.exit(main())
