"""LitServe around an ONNX file that takes the photo: `python examples/serve/lit.py FILE.onnx [WORKERS]`."""

import base64
import sys

import litserve
from fastapi import HTTPException

from resnet_hub.onnx_file import OnnxFile
from resnet_hub.predict import classify


class Photos(litserve.LitAPI):
    """{"image": base64 of a file} -> {"top": [[label, probability], ...], "certainty": ...}."""

    def setup(self, device: str) -> None:
        """One session a worker."""
        self.file = OnnxFile(sys.argv[1])

    def decode_request(self, request: dict) -> bytes:
        """The bytes of the image file."""
        try:
            return base64.b64decode(request["image"], validate=True)
        except (KeyError, TypeError, ValueError) as error:
            raise HTTPException(400, 'send {"image": "base64 of an image file"}') from error

    def predict(self, image: bytes) -> dict:
        """The five most probable classes."""
        try:
            (prediction,) = classify(self.file, [image])
        except ValueError as error:
            raise HTTPException(400, str(error)) from error
        return {"top": prediction.top, "certainty": prediction.certainty}


if __name__ == "__main__":
    workers = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    server = litserve.LitServer(Photos(), accelerator="cpu", workers_per_device=workers)
    server.run(port=8000, host="127.0.0.1", generate_client_file=False)
