"""Photos of all kinds, made on the spot: what browsers and Pillow may decode or resize in two ways."""

from io import BytesIO

import numpy as np
from PIL import Image

SIZES = (
    (1, 1), (2, 1), (1, 7), (3, 5), (17, 400), (400, 17), (31, 33), (32, 32), (33, 31), (64, 64), (90, 60),
    (100, 100),
    (127, 255), (300, 451), (451, 300), (480, 640), (640, 480), (799, 601), (1000, 10), (1024, 768),
)  # fmt: skip


def scene(seed: int, size: tuple[int, int]) -> Image.Image:
    """Smooth colours, an edge and some noise, (width, height)."""
    draw = np.random.default_rng(seed)
    coarse = Image.fromarray(draw.integers(0, 256, (4, 5, 3), dtype=np.uint8))
    values = np.asarray(coarse.resize(size, Image.Resampling.BICUBIC), np.int16).copy()
    values[values.shape[0] // 3 :, : values.shape[1] // 2] //= 2
    noisy = values + draw.integers(-8, 9, values.shape)
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def stored(image: Image.Image, kind: str, **options) -> bytes:
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def with_alpha(image: Image.Image) -> Image.Image:
    alpha = Image.linear_gradient("L").resize(image.size)
    return Image.merge("RGBA", (*image.split(), alpha))


def photos() -> dict[str, bytes]:
    """A hundred files by name."""
    found = {}
    for seed, size in enumerate(SIZES):
        image = scene(seed, size)
        name = "{}x{}".format(*size)
        found[f"{name}.png"] = stored(image, "PNG")
        found[f"{name}.jpg"] = stored(image, "JPEG", quality=92)
        found[f"{name} 4:4:4.jpg"] = stored(image, "JPEG", quality=85, subsampling=0)
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        found[f"turned {orientation}.jpg"] = stored(scene(40 + orientation, (120, 80)), "JPEG", exif=exif)
    for seed in range(50, 54):
        image = scene(seed, (70 + seed, 90))
        kinds = {"grey": image.convert("L"), "palette": image.convert("P"), "transparent": with_alpha(image)}
        for kind, changed in kinds.items():
            found[f"{kind} {seed}.png"] = stored(changed, "PNG")
        found[f"grey {seed}.jpg"] = stored(image.convert("L"), "JPEG")
        found[f"palette {seed}.gif"] = stored(image.convert("P"), "GIF")
        found[f"lossless {seed}.webp"] = stored(image, "WEBP", lossless=True)
        found[f"plain {seed}.bmp"] = stored(image, "BMP")
    more = [scene(60 + i, (80, 80)) for i in range(3)]
    found["animated.gif"] = stored(more[0], "GIF", save_all=True, append_images=more[1:])
    found["large.jpg"] = stored(scene(70, (4000, 3000)), "JPEG", quality=80)
    found["progressive.jpg"] = stored(scene(71, (600, 400)), "JPEG", progressive=True)
    found["lossy.webp"] = stored(scene(72, (500, 300)), "WEBP", quality=90)
    return found


def decoded_otherwise() -> dict[str, bytes]:
    """Files whose colours a browser computes in its own way."""
    deep = np.asarray(scene(80, (90, 70)).convert("L"), np.uint16) * 257
    return {
        "cmyk.jpg": stored(scene(81, (90, 70)).convert("CMYK"), "JPEG"),
        "16 bits.png": stored(Image.fromarray(deep), "PNG"),
    }
