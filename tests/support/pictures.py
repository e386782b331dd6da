"""Images to send: drawn here, so that it is known what is on them."""

import io

from PIL import Image, ImageDraw


def circle(width: int, height: int, kind: str = "png", colour: str = "red", *, noise: bool = False) -> bytes:
    """A filled circle in the middle of a white image; `noise` makes it one that can't be packed well."""
    image = Image.new("RGB", (width, height), "white")
    if noise:
        image = Image.effect_noise((width, height), 100).convert("RGB")
    radius = min(width, height) // 3
    middle = (width // 2, height // 2)
    ImageDraw.Draw(image).ellipse(
        (middle[0] - radius, middle[1] - radius, middle[0] + radius, middle[1] + radius), fill=colour
    )
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()
