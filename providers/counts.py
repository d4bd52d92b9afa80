"""What a vendor says that it counted, made fit to be charged: nothing negative, no part larger than its whole."""

from providers.types import Counted


def counted(
    *,
    input_tokens: int | None,
    output_tokens: int | None,
    cached: int | None = None,
    written: int | None = None,
    written_long: int | None = None,
    reasoning: int | None = None,
) -> Counted | None:
    """Return counts that can be charged; None where the vendor did not count both input and output."""
    if input_tokens is None or output_tokens is None:
        return None
    cached = min(cached or 0, input_tokens)
    written = min(written or 0, input_tokens - cached)
    return Counted(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cached_tokens=cached,
        written_tokens=written,
        written_long_tokens=min(written_long or 0, written),
        reasoning_tokens=min(reasoning or 0, output_tokens),
    )
