"""A trace of one drain: `python -m benchmarks.trace` prints who worked when, a line for each verb.

The child's main thread claims, batches, marks and infers; settle has a thread of its own. The device waits
where the line of `infer` has gaps.
"""

import click

from benchmarks.backlog import log_normal_texts
from benchmarks.planning import Seen, drain_texts
from benchmarks.stack import running

VERBS = ("claim", "batch", "mark", "infer", "settle")


@click.command()
@click.option("--count", default=120, help="Texts to embed.")
@click.option("--width", default=100, help="Columns of the trace.")
def main(count: int, width: int) -> None:
    """Drain so many `minilm` jobs in one child and draw it."""
    with running() as stack:
        seen, rate = drain_texts(stack.database_url, stack.redis_url, log_normal_texts(count))
    for line in draw(seen, width):
        click.echo(line)
    click.echo(f"{rate:.0f} texts/s")


def draw(seen: Seen, width: int) -> list[str]:
    """One line a verb: `█` busy all of that moment, `▌` part of it, `·` not; and its share of the whole."""
    spans = [span for span in seen.spans if span[0] in VERBS]
    first = min(begin for name, begin, _ in spans if name == "claim")
    last = max(end for _, _, end in spans)
    step = (last - first) / width
    lines = [f"{(last - first) * 1000:.0f} ms, {step * 1000:.1f} ms a column"]
    for verb in VERBS:
        own = [(begin, end) for name, begin, end in spans if name == verb]
        cells = ""
        for column in range(width):
            left, right = first + column * step, first + (column + 1) * step
            busy = sum(max(0.0, min(end, right) - max(begin, left)) for begin, end in own) / step
            cells += "█" if busy > 0.9 else "▌" if busy > 0.1 else "·"
        share = sum(end - begin for begin, end in own) / (last - first)
        lines.append(f"{verb:>7} {cells} {share:4.0%} {len(own):3d}×")
    return lines


if __name__ == "__main__":
    main()
