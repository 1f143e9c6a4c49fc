"""`python -m resnet_hub.parity`: the command of `resnet_hub.interop.parity`."""

import sys

from resnet_hub.command import end_while_importing

if __name__ == "__main__":
    end_while_importing()

from resnet_hub.interop.parity import main

if __name__ == "__main__":
    sys.exit(main())
