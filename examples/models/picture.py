"""picture: what an image looks like, in numbers, and where its edges are. A model that takes media.

Real work on any CPU with nothing to download: a Sobel filter by torch over a padded batch, and a perceptual
hash that says whether two images look alike.
"""

import base64
import io

from pydantic import BaseModel, Field

from app.domain.model import Media, Model
from app.errors import JobError

MOST_PIXELS = 16_000_000
SOBEL = [[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]
BRIGHTNESS = [0.299, 0.587, 0.114]


class Picture(Model):
    """Size, brightness, colour, sharpness and perceptual hash of an image; its edges as a PNG if asked."""

    name = "picture"
    unit = "pixels"
    max_batch_items = 16
    max_batch_units = 32_000_000
    memory_mb = 1024

    class Input(BaseModel):
        """One image, in a format that Pillow reads."""

        image: Media
        edges: bool = Field(False, description="Whether to draw its edges.")

    class Output(BaseModel):
        """What was measured. Brightness, contrast and sharpness are from 0 to 1."""

        width: int
        height: int
        brightness: float
        contrast: float
        sharpness: float = Field(description="How strong its edges are on average; what is blurred has few.")
        colour: str = Field(description="The average colour, as #rrggbb.")
        dhash: str = Field(description="64 bits in hex. Of images that look alike, few bits differ.")
        edges: str | None = Field(None, description="Its edges, as a PNG in base64.")

    def load(self, device: str) -> None:
        import torch

        self.torch, self.device = torch, device
        across = torch.tensor(SOBEL) / 4
        self.sobel = torch.stack([across, across.T]).unsqueeze(1).to(device)
        self.weights = torch.tensor(BRIGHTNESS, device=device).view(1, 3, 1, 1)

    def measure(self, value: Input) -> int:
        # Only the header is read here: a small file can be a huge image.
        width, height = opened(value.image).size
        if width * height > MOST_PIXELS:
            raise JobError("image_too_large", f"the image has {width}x{height} pixels; {MOST_PIXELS} at most")
        return width * height

    def predict(self, values: list[Input]) -> list[Output | Exception]:
        images = [decoded(value.image) for value in values]
        # Only this job fails if its image is broken. Its neighbours get their answers.
        whole = [image for image in images if not isinstance(image, JobError)]
        edges = iter(self._edges([self._tensor(image) for image in whole]) if whole else ())
        return [
            image if isinstance(image, JobError) else self._answer(value, image, next(edges))
            for value, image in zip(values, images, strict=True)
        ]

    def _tensor(self, image):
        """Colours from 0 to 1: 3 x height x width."""
        flat = self.torch.frombuffer(bytearray(image.tobytes()), dtype=self.torch.uint8)
        return flat.view(image.height, image.width, 3).permute(2, 0, 1).float() / 255

    def _edges(self, tensors):
        """How strong the edges are at each pixel, for all images in one pass: padded, filtered, cut again."""
        height, width = max(t.shape[1] for t in tensors), max(t.shape[2] for t in tensors)
        pad = self.torch.nn.functional.pad
        with self.torch.inference_mode():
            # Each is continued by its own last pixels, so that padding makes no edges.
            batch = self.torch.stack(
                [pad(t, (0, width - t.shape[2], 0, height - t.shape[1]), "replicate") for t in tensors]
            ).to(self.device)
            grey = (batch * self.weights).sum(1, keepdim=True)
            slopes = self.torch.nn.functional.conv2d(pad(grey, (1, 1, 1, 1), "replicate"), self.sobel)
            strength = (slopes.square().sum(1) / 2).sqrt().clamp(max=1).cpu()
        return [found[: t.shape[1], : t.shape[2]] for found, t in zip(strength, tensors, strict=True)]

    def _answer(self, value: Input, image, edges) -> Output:
        from PIL import Image, ImageStat

        colours, grey = ImageStat.Stat(image), ImageStat.Stat(image.convert("L"))
        drawn = None
        if value.edges:
            pixels = (edges * 255).byte().contiguous()
            drawn = png(Image.frombytes("L", image.size, pixels.numpy().tobytes()))
        return self.Output(
            width=image.width,
            height=image.height,
            brightness=grey.mean[0] / 255,
            contrast=min(1.0, grey.stddev[0] / 127.5),
            sharpness=float(edges.mean()),
            colour="#" + "".join(f"{round(mean):02x}" for mean in colours.mean),
            dhash=dhash(image),
            edges=drawn,
        )


def opened(media: Media):
    """The image with its size known and its pixels unread."""
    from PIL import Image, UnidentifiedImageError

    try:
        return Image.open(media.open())
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError):
        raise JobError("not_an_image", "this is no image, or of a kind that can't be read") from None


def decoded(media: Media):
    """The image in RGB, or the error that stands for it."""
    try:
        return opened(media).convert("RGB")
    except JobError as error:
        return error
    except Exception:  # what breaks off half-way raises many things
        return JobError("broken_image", "the image can't be read to its end")


def dhash(image) -> str:
    """Whether each pixel of a 9x8 thumbnail is darker than its right neighbour."""
    small = image.convert("L").resize((9, 8)).tobytes()
    bits = [small[row * 9 + column] < small[row * 9 + column + 1] for row in range(8) for column in range(8)]
    return f"{int(''.join('01'[bit] for bit in bits), 2):016x}"


def png(image) -> str:
    """The image as a PNG in base64."""
    file = io.BytesIO()
    image.save(file, "png")
    return base64.b64encode(file.getvalue()).decode()
