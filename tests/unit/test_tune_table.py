"""What `headracectl models tune` prints."""

import io

from rich.console import Console

from app.commands import tune
from app.commands.trials import Trial
from app.domain.variants import Variant


def test_an_error_is_shown_with_its_brackets() -> None:
    trial = Trial(Variant.ONNX, error="pip install 'headrace[onnx]'")
    with io.StringIO() as page:
        Console(file=page, width=250).print(tune._table([trial], None, 0.999))
        assert "failed: pip install 'headrace[onnx]'" in page.getvalue()
