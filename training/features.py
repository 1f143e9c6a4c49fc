"""Features that a frozen network gives, kept on the disk by the content of image and network: computed once
for all seeds, ranks and resumed runs."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor

from resnet_hub.errors import Refusal
from resnet_hub.files import write_whole
from resnet_hub.models.base import Network
from training.data import Images
from training.distributed import place, rank, summed, world_size

MOST_BYTES = 1 << 30  # of one network's features; beyond it no more are stored
MOST_IN_ALL = 4 << 30  # of all networks' files; beyond it the one that was not used for longest goes
OF_HEAD = ("num_classes", "drop_rate")  # what a configuration says of the classifier alone
KEY = 16  # bytes


def folder() -> Path:
    """Where features are kept: beside torch's hub cache, which TORCH_HOME moves."""
    return Path(torch.hub.get_dir()).parent / "resnet_hub" / "features"


def stored_features(
    model: Network,
    data: Images,
    device: torch.device,
    compute: Callable[[Images, torch.device], Tensor],
    how: str = "",
) -> tuple[Tensor, Tensor, float]:
    """The features (N, F) float32 of the N images that can be read, their positions (N,), and the seconds
    that computing them took, now or when they were stored.

    Args:
        compute: (images, device) -> features; asked for images that are not stored, a share on each process.
        how: the engine and the precision that `compute` takes; what another one computed is not taken for it.
    """
    keys, read = image_keys(data)
    store = folder() / f"{network_key(model, device, how)}.safetensors"
    known = _read(store)
    with suppress(OSError):  # used now, so it goes last
        os.utime(store)
    # Machines without a common disk know different ones; all have read before one writes.
    unknown = summed(torch.tensor([float(key not in known) for key in keys], device=device)).cpu() > 0
    missing = {keys[i]: int(read[i]) for i in unknown.nonzero()[:, 0].tolist()}
    if missing:
        fresh = _computed(data.subset(torch.tensor(list(missing.values()))), device, compute)
        known |= dict(zip(missing, fresh, strict=True))
        if rank() == 0:
            _write(store, known)
            _drop_oldest()
    if not keys:
        return torch.empty(0, 0), read, 0.0
    features, seconds = zip(*(known[key] for key in keys), strict=True)
    return torch.stack(features), read, sum(seconds)


def _computed(data: Images, device: torch.device, compute: Callable) -> list[tuple[Tensor, float]]:
    """For each image its features and its share of the seconds; each process computes a part."""
    mine = torch.arange(len(data))[place() :: world_size()]
    started = time.perf_counter()
    part = compute(data.subset(mine if len(mine) else torch.tensor([0])), device)  # all learn the width
    features = torch.zeros(len(data), part.shape[1], device=device)
    features[mine.to(device)] = part[: len(mine)].to(device)
    took = summed(torch.tensor(time.perf_counter() - started, device=device)).item()
    return [(each, took / world_size() / len(data)) for each in summed(features).cpu()]


def image_keys(data: Images) -> tuple[list[bytes], Tensor]:
    """A digest of the pixels of each image that can be read, and its position."""
    keys: list[bytes] = []
    read = [torch.empty(0, dtype=torch.long)]
    for images, index in data.fetch(torch.arange(len(data)).split(64) if len(data) else []):
        pixels = [image.contiguous().numpy().tobytes() for image in images]
        keys += [hashlib.blake2b(each, digest_size=KEY).digest() for each in pixels]
        read.append(index)
    return keys, torch.cat(read)


def network_key(model: Network, device: torch.device, how: str) -> str:
    """A digest of all that features depend on beside the image: network but classifier, preprocessing, torch,
    the kind of device and of its kernels, and `how`: engine and precision."""
    config = {name: value for name, value in model.config.to_dict().items() if name not in OF_HEAD}
    kernels = torch.are_deterministic_algorithms_enabled()  # on CUDA without TF32
    made_by = (config, model.preprocess, torch.__version__, device.type, kernels, how)
    seen = hashlib.sha256(repr(made_by).encode())
    for name, value in model.state_dict().items():
        if not name.startswith(f"{model.classifier_name}."):
            seen.update(name.encode())
            seen.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return seen.hexdigest()[:32]


def _read(path: Path) -> dict[bytes, tuple[Tensor, float]]:
    from safetensors.torch import load_file

    try:
        held = load_file(path)
        keys, features, seconds = (held[name] for name in ("keys", "features", "seconds"))
        return {bytes(k): (f, s) for k, f, s in zip(keys.numpy(), features, seconds.tolist(), strict=True)}
    except Exception:  # missing or damaged: it is computed again
        return {}


def _write(path: Path, known: dict[bytes, tuple[Tensor, float]]) -> None:
    from safetensors.torch import save

    features = torch.stack([each for each, _ in known.values()])
    if features.numel() * features.element_size() > MOST_BYTES:
        return
    keys = torch.frombuffer(bytearray(b"".join(known)), dtype=torch.uint8).view(-1, KEY)
    seconds = torch.tensor([each for _, each in known.values()], dtype=torch.double)
    with suppress(Refusal):  # a full disk costs the next run time, not this one its end
        write_whole(path, save({"keys": keys, "features": features.contiguous(), "seconds": seconds}))


def _drop_oldest() -> None:
    """Keep the files that were used last, as many as fit into `MOST_IN_ALL`."""
    held = 0
    with suppress(OSError):  # another process may drop them too
        stores = [(file.stat(), file) for file in folder().glob("*.safetensors")]
        for stat, file in sorted(stores, key=lambda pair: pair[0].st_mtime_ns, reverse=True):
            held += stat.st_size
            if held > MOST_IN_ALL:
                file.unlink(missing_ok=True)
