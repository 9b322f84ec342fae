"""Pictures as bytes, with the borders of their lesions and the lesions' names."""

import io
from collections.abc import Mapping

import numpy as np
from matplotlib.colors import to_rgb
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont

from medalign_lite.cases.case import Case
from medalign_lite.cases.images import read_image
from medalign_lite.corruption.masks import lesion_mask
from medalign_lite.show.figures import CONTROL, LESION

SIDE = 360  # pixels of the shown picture's longer side


def png(image: Image.Image) -> bytes:
    """The picture as PNG bytes."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def outlined(
    image: Image.Image, lesion: np.ndarray | None = None, control: np.ndarray | None = None, *, side: int = SIDE
) -> Image.Image:
    """The picture scaled to `side`, with the borders of its masks, bool (H, W): lesion orange, control blue."""
    scale = side / max(image.size)
    size = tuple(max(1, round(side * scale)) for side in image.size)
    picture = image.convert("RGB").resize(size, Image.Resampling.BICUBIC)
    for mask, colour in ((lesion, LESION), (control, CONTROL)):
        if mask is not None:
            area = Image.fromarray(np.asarray(mask, np.uint8) * 255).resize(size, Image.Resampling.NEAREST)
            border = ImageChops.difference(area, area.filter(ImageFilter.MinFilter(5)))
            picture.paste(tuple(round(255 * v) for v in to_rgb(colour)), mask=border)
    return picture


def lesion_names(case: Case) -> dict[str, str]:
    """{what it is called in the case: a name such as "left effusion"} of visible facts and lesions with pixels."""
    named: dict[str, str] = {x.label.lower(): x.label for x in case.lesions if x.outlined}
    named |= {f.finding: " ".join(filter(None, (f.side, f.finding))) for f in case.facts or () if f.mask and f.visible}
    return named


def lesions_of(case: Case) -> dict[str, np.ndarray]:
    """{name such as "left effusion": mask, bool (H, W)} of each of them."""
    return {shown: lesion_mask(case, [name]) for name, shown in lesion_names(case).items()}


def with_lesions(case: Case, *, side: int = SIDE) -> Image.Image:
    """The case's picture with each lesion outlined and called by its name."""
    return named(read_image(case.image), lesions_of(case), side=side)


def named(image: Image.Image, lesions: Mapping[str, np.ndarray], *, side: int = SIDE) -> Image.Image:
    """The picture scaled to `side`, each mask outlined, its name on black above it, or below where that is taken."""
    picture = outlined(image, np.logical_or.reduce(list(lesions.values())) if lesions else None, side=side)
    pen, font, taken = ImageDraw.Draw(picture), ImageFont.load_default(max(11, side // 24)), []
    for name, mask in lesions.items():
        rows, columns = np.nonzero(mask)
        if not len(rows):
            continue
        scale = picture.width / mask.shape[1]
        width, height = pen.textlength(name, font=font) + 6, font.size + 6
        x = min(max(0, columns.mean() * scale - width / 2), picture.width - width)
        tops = [rows.min() * scale - height - 3, rows.max() * scale + 3, rows.mean() * scale]
        boxes = [(x, y, x + width, y + height) for y in (min(max(0, y), picture.height - height) for y in tops)]
        taken.append(next((box for box in boxes if not any(_overlap(box, other) for other in taken)), boxes[0]))
        pen.rectangle(taken[-1], fill="black")
        pen.text((x + 3, taken[-1][1] + 1), name, font=font, fill=LESION)
    return picture


def _overlap(a: tuple, b: tuple) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
