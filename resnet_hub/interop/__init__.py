"""Other libraries: timm, torchvision, transformers and ONNX."""
