"""One image through one of our models and its references: answers side by side, stage by stage.

torch is imported when networks run, so that a page can name these types before that.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from PIL import Image

from resnet_hub.interop.reference import Facts, Reference, facts_of, is_same_network
from resnet_hub.models.timm_names import WITHOUT_EFFECT
from resnet_hub.preprocess import Preprocess, load_image

if TYPE_CHECKING:
    import torch

    from resnet_hub.models.base import Network
    from resnet_hub.predict import Prediction

# Which of ImageNet's 1000 classes belong to each of CIFAR-10's ten. ImageNet has no deer, and a pickup is
# neither an automobile nor a truck (https://www.cs.toronto.edu/~kriz/cifar.html).
CIFAR_OF_IMAGENET = {
    "airplane": [404, 895],
    "automobile": [436, 468, 511, 609, 627, 656, 661, 751, 817],
    "bird": [*range(7, 25), *range(80, 101), *range(127, 147)],
    "cat": [*range(281, 286)],
    "deer": [],
    "dog": [*range(151, 269)],
    "frog": [30, 31, 32],
    "horse": [339],
    "ship": [403, 484, 510, 554, 625, 628, 724, 780, 814, 833, 871, 914],
    "truck": [555, 569, 675, 864, 867],
}  # fmt: skip


@dataclass(frozen=True)
class Answer:
    """One network's answer for one image.

    Args:
        facts: what the network is.
        labels: its classes.
        probabilities: one a class, calibrated where the model is.
        seen: the network's input image, before normalisation.
        logits: one a class.
        seconds: time in the network.
        certainty: as `Prediction.certainty`; None where nothing was measured.
    """

    facts: Facts
    labels: tuple[str, ...]
    probabilities: list[float]
    seen: Image.Image
    logits: list[float]
    seconds: float
    certainty: str | None = None

    def top(self, count: int = 5) -> list[tuple[str, float]]:
        """(label, probability) of the most probable classes, best first."""
        order = sorted(range(len(self.labels)), key=lambda i: -self.probabilities[i])[:count]
        return [(self.labels[i], self.probabilities[i]) for i in order]


@dataclass(frozen=True)
class Beside:
    """A reference's answer beside ours.

    Args:
        answer: the reference's.
        space: "same" labels, "mapped" (ImageNet's onto CIFAR-10's) or "other".
        theirs: the reference's probability of each of our labels; empty where labels cannot be compared.
        same_input: whether both got the same pixels, normalised the same way.
        logits: (largest absolute difference, the same over the largest logit) for one input into
            corresponding networks with the same labels; None otherwise.
        stages: (module, relative difference of its feature map) where the networks correspond.
    """

    answer: Answer
    space: str
    theirs: list[float]
    same_input: bool
    logits: tuple[float, float] | None
    stages: list[tuple[str, float]]

    def agrees(self, ours: Answer) -> bool | None:
        """Whether both have the same first guess; None where labels cannot be compared."""
        if not self.theirs:
            return None
        mapped = self.space == "mapped"
        first = guess(ours.labels, self.theirs) if mapped else self.answer.top(1)[0][0]
        return first == ours.top(1)[0][0]


# Label spaces


def guess(labels: Sequence[str], probabilities: Sequence[float]) -> str:
    """The most probable label; "" where all of them share less than half (of a photo of an espresso)."""
    best = max(range(len(labels)), key=probabilities.__getitem__)
    return labels[best] if sum(probabilities) > 0.5 else ""


def label_space(ours: Sequence[str], theirs: Sequence[str]) -> str:
    """How two label spaces relate: "same", "mapped" or "other"."""
    if tuple(ours) == tuple(theirs):
        return "same"
    is_imagenet = len(theirs) == 1000 and theirs[0].startswith("tench")
    return "mapped" if is_imagenet and set(ours) == set(CIFAR_OF_IMAGENET) else "other"


def in_our_labels(ours: Sequence[str], theirs: Sequence[str], probabilities: Sequence[float]) -> list[float]:
    """A reference's probability of each of our labels; [] where the label spaces have nothing in common."""
    space = label_space(ours, theirs)
    if space == "same":
        return list(probabilities)
    if space == "mapped":
        return [sum(probabilities[i] for i in CIFAR_OF_IMAGENET[label]) for label in ours]
    return []


# One image


def side_by_side(
    ours: Network, source: str, references: Sequence[Reference], image: Any
) -> tuple[Answer, list[Beside]]:
    """One image through our model and through each reference, each with its own preprocessing.

    Args:
        ours: a `Network` in eval mode.
        source: where it was loaded from.
        image: anything `load_image` reads.

    Raises:
        ImageError: for an image that cannot be read.
    """
    photo = load_image(image)
    answer, maps = _answer(ours, facts_of(ours, source), photo, _our_stages)
    return answer, [_beside(ours, answer, maps, theirs, photo) for theirs in references]


def _beside(ours: Network, answer: Answer, maps: list, theirs: Reference, photo: Image.Image) -> Beside:
    stages = _stages_of(ours, theirs)
    corresponds = stages is not _no_stages
    same_input = theirs.preprocess == ours.preprocess
    found, their_maps = _answer(theirs, theirs.facts, photo, stages)
    compared = found
    if corresponds and not same_input:  # compare the networks, not the images
        compared, their_maps = _answer(theirs, theirs.facts, photo, stages, ours.preprocess)
    space = label_space(answer.labels, found.labels)
    return Beside(
        answer=found,
        space=space,
        theirs=in_our_labels(answer.labels, found.labels, found.probabilities),
        same_input=same_input,
        logits=_logit_difference(answer, compared) if corresponds and space == "same" else None,
        stages=_stage_differences(ours, maps, their_maps) if corresponds else [],
    )


def _logit_difference(ours: Answer, theirs: Answer) -> tuple[float, float]:
    import torch

    from resnet_hub.interop.parity import difference

    return difference(torch.tensor(ours.logits), torch.tensor(theirs.logits))


def _stage_differences(ours: Network, maps: list, their_maps: list) -> list[tuple[str, float]]:
    from resnet_hub.interop.parity import difference

    modules = [info["module"] for info in ours.feature_info]
    # timm has a fourth stage, empty, where the network has three
    return [(name, difference(a, b)[1]) for name, a, b in zip(modules, maps, their_maps, strict=False)]


# Stage by stage without hooks: a hook on a model that two visitors share would collect the maps of both.


def _stages_of(ours: Network, theirs: Reference) -> Callable:
    """What runs a reference: stage by stage where it is the network of our model, whatever its classes."""
    if theirs.facts.weights == "ours":
        return _own_stages if _layers_of(theirs.net) == _layers_of(ours) else _no_stages
    is_ours = theirs.facts.weights == "copied" or is_same_network(ours.config, theirs.facts.name)
    return _timm_stages if is_ours else _no_stages


def _layers_of(model: Network) -> dict[str, Any]:
    """What of a configuration decides which layers run."""
    apart = WITHOUT_EFFECT if model.fixed_input_size else WITHOUT_EFFECT | {"input_size"}
    return {field: value for field, value in asdict(model.config).items() if field not in apart}


def _our_stages(model: Any, pixels: torch.Tensor) -> tuple[torch.Tensor, list]:
    maps = model.features(pixels)
    return model.head(maps[-1]), maps


def _own_stages(reference: Reference, pixels: torch.Tensor) -> tuple[torch.Tensor, list]:
    return _our_stages(reference.net, pixels)


def _timm_stages(reference: Reference, pixels: torch.Tensor) -> tuple[torch.Tensor, list]:
    last, maps = reference.net.forward_intermediates(pixels)
    return reference.net.forward_head(last), maps[1:]  # the first is the stem's


def _no_stages(reference: Reference, pixels: torch.Tensor) -> tuple[torch.Tensor, list]:
    return reference.net(pixels), []


def _answer(
    model: Network | Reference,
    facts: Facts,
    photo: Image.Image,
    run: Callable,
    preprocess: Preprocess | None = None,
) -> tuple[Answer, list]:
    """The answer and the maps that `run` (model, pixels) -> (logits, maps) keeps."""
    from resnet_hub.predict import evaluation

    preprocess = preprocess or model.preprocess
    crop = preprocess.crop(photo)
    device = next(model.parameters()).device
    pixels = preprocess.normalise(crop)[None].to(device)
    with evaluation(model):
        started = time.perf_counter()
        logits, maps = run(model, pixels)
        logits = logits[0].float().cpu()
        seconds = time.perf_counter() - started
        probabilities = model.calibration.probabilities(logits).tolist()
    certainty = model.calibration.certainty(logits.logsumexp(0).item(), max(probabilities, default=0.0))
    answer = Answer(facts, model.labels, probabilities, crop, logits.tolist(), seconds, certainty)
    return answer, maps


# Several images


@dataclass(frozen=True)
class Row:
    """First guesses for one of several images.

    Args:
        ours: (label, probability).
        theirs: the same of each reference, in our labels; None where the label spaces cannot be compared.
            The label is "" where our labels share less than half of the probability.
        certainty: of our answer, as in `Prediction`.
    """

    ours: tuple[str, float]
    theirs: list[tuple[str, float] | None]
    certainty: str | None = None


def many(ours: Network, references: Sequence[Reference], images: Sequence) -> list[Row]:
    """Several images through our model and every reference, in batches.

    Raises:
        ImageError: for the first image that cannot be read.
    """
    from resnet_hub.predict import classify

    photos = [load_image(image) for image in images]
    columns = [
        [_first_guess(ours.labels, each, found) for found in classify(each, photos, top_k=len(each.labels))]
        if each.labels
        else [None] * len(photos)  # a headless network
        for each in references
    ]
    answers = classify(ours, photos, top_k=1)
    return [
        Row(said.top[0], [column[i] for column in columns], said.certainty) for i, said in enumerate(answers)
    ]


def _first_guess(labels: Sequence[str], reference: Reference, found: Prediction) -> tuple[str, float] | None:
    space = label_space(labels, reference.labels)
    if space != "mapped":
        return found.top[0] if space == "same" else None
    by_class = dict(zip(found.class_indices, (share for _, share in found.top), strict=True))
    shares = in_our_labels(labels, reference.labels, [by_class[i] for i in range(len(by_class))])
    best = guess(labels, shares)
    return best, shares[labels.index(best)] if best else sum(shares)
