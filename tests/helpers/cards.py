"""The facts of a made-up run, as a card is rendered from."""

LABELS = ("cat", "dog", "ship")


RESULTS = {
    "images": 1234,
    "top1": 0.8761,
    "top5": 0.9912,
    "top1_flip_tta": 0.8843,
    "loss": 0.4321,
    "calibration_error": 0.0123,
    "calibration_error_uncalibrated": 0.0456,
    "per_class": [0.915, 0.725, 0.871],
    "confusion": [[366, 20, 14], [90, 290, 20], [30, 26, 378]],
    "false_alarms": 0.0517,
    "unfamiliar": {"ants and bees": {"images": 244, "flagged": 0.4139}},
}


RECIPE = {
    "name": "fast", "optimizer": "muon", "lr": 0.123, "muon_lr": 0.0456, "weight_decay": 0.00078,
    "warmup": 0.21, "label_smoothing": 0.067, "ema": 0.987, "low_res": 24, "low_res_until": 0.55,
}  # fmt: skip


FACTS = {
    "name": "my_run",
    "command": "python -m training.cifar resnet20_cifar --data photos --out my_run",
    "data": "CIFAR-10 re-encoded as JPEG",
    "train_images": 45017,
    "held_out_images": 5003,
    "recipe": RECIPE,
    "seed": 17,
    "precision": "bfloat16",
    "epochs_run": 36,
    "best_epoch": 35,
    "train_loss": 0.3579,
    "train_acc": 0.9137,
    "val_loss": 0.4468,
    "val_acc": 0.8813,
    "seconds": 2871.0,
    "pflops": 0.3147,
    "hardware": "a made-up processor, 2 cores",
    "versions": {"python": "3.11.9", "torch": "2.15.0"},
    "results": RESULTS,
}


def leaves(value) -> list:
    if isinstance(value, dict):
        return [leaf for inner in value.values() for leaf in leaves(inner)]
    if isinstance(value, list):
        return [leaf for inner in value for leaf in leaves(inner)]
    return [value]


# As version 0.1 wrote it: a marked block a section, figures in prose only. Two additions of a person's.
OLD_CARD = """---
license: mit
model-index:
- name: resnet20_cifar10
  results:
  - task:
      type: image-classification
    dataset:
      name: CIFAR-10
      type: cifar10
    metrics:
    - type: accuracy
      value: 0.8798
      name: Top-1 accuracy
---

# resnet20_cifar, trained on CIFAR-10
<!-- generated a799a74fcae0: written anew by each push; add text outside these two comments -->
A `resnet20_cifar` network with 269,722 parameters that sorts images into 10 classes.
<!-- end of generated part -->

## Results

<!-- generated 7494f11e03b5: written anew by each push; add text outside these two comments -->
| top-1 accuracy | 87.98 % |
<!-- end of generated part -->

Not for mushrooms.

## Thanks

To Anna.

## Use

<!-- generated 622a33d34faf: written anew by each push; add text outside these two comments -->
Input: 32x32 pixels.
<!-- end of generated part -->
"""
