"""`python -m resnet_hub.convert`: the command of `resnet_hub.interop.convert`."""

import sys

from resnet_hub.command import end_while_importing

if __name__ == "__main__":
    end_while_importing()

from resnet_hub.interop.convert import main

if __name__ == "__main__":
    sys.exit(main())
