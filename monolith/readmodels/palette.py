"""Palettes of many pictures: alike colours count as one, the mean of which is shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec
import polars as pl

COLORS_SHOWN: Final = 5
_SPAN: Final = 48
"""Colours whose channels fall into the same span of this width count as one."""
_KINDS: Final = 512
_CHANNELS: Final = ("red", "green", "blue")

NO_SUMS: Final = pl.DataFrame(
    schema={"group": pl.Int64, "kind": pl.Int64, "share": pl.Float64} | dict.fromkeys(_CHANNELS, pl.Float64)
)


class PaletteColor(msgspec.Struct, frozen=True):
    """A colour, `#rrggbb` (the mean of alike ones), and its share of the pictures, 0–1."""

    color: str
    share: float


def sums_of_colors(lines: pl.LazyFrame, group: pl.Expr) -> pl.LazyFrame:
    """For each `group` (a whole number) and kind of colour: `share`, and `red`, `green`, `blue` weighted with it,
    summed. `lines`: those of colours alone."""
    rgb, share = pl.col("rgb"), pl.col("share")
    channels = (rgb // 65536, rgb // 256 % 256, rgb % 256)
    kind = sum((channel // _SPAN * 8**place for place, channel in enumerate(channels)), pl.lit(0))
    weighted = [(channel * share).alias(name) for name, channel in zip(_CHANNELS, channels, strict=True)]
    sums = lines.select((group * _KINDS + kind).alias("key"), share, *weighted)
    return (
        sums.group_by("key")
        .agg(pl.col("share", *_CHANNELS).sum())
        .with_columns((pl.col("key") // _KINDS).alias("group"), (pl.col("key") % _KINDS).alias("kind"))
    )


def palettes_of(sums: pl.DataFrame, frames: Mapping[int, int]) -> dict[int, tuple[PaletteColor, ...]]:
    """For each group of `sums_of_colors` the greatest shares first; `frames`: of how many pictures it is."""
    top = (
        sums.filter(pl.col("share") > 0)
        .sort("group", "share", "kind", descending=[False, True, False])
        .group_by("group", maintain_order=True)
        .head(COLORS_SHOWN)
    )
    palettes: dict[int, list[PaletteColor]] = {}
    for group, share, *channels in top.select("group", "share", *_CHANNELS).iter_rows():
        color = _hex(*(channel / share for channel in channels))
        palettes.setdefault(group, []).append(PaletteColor(color, round(share / frames[group], 4)))
    return {group: tuple(colors) for group, colors in palettes.items()}


def _hex(*channels: float) -> str:
    return "#" + "".join(f"{round(channel):02x}" for channel in channels)
