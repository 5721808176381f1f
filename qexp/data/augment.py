"""Random flips and crops, for a whole batch at once, as a pure function."""

import torch
from torch import Tensor


def flip_and_crop(padded: Tensor, picks: Tensor, flips: Tensor, offsets: Tensor, crop: int) -> Tensor:
    """Take images out of `padded`, flip some horizontally, then cut a window out of each.

    The padding is symmetric, so flipping the padded image is the same as padding the flipped one.

    Args:
        padded: (M, H + 2 crop, W + 2 crop, C), images with `crop` pixels of padding on each side.
        picks: (N,) int64, which images to take.
        flips: (N,) bool, which of these to flip.
        offsets: (N, 2) int64 in 0..2 crop, upper left corner (row, column) of the windows.
        crop: pixels of padding.

    Returns:
        (N, H, W, C), of the type of `padded`.
    """
    _, padded_height, padded_width, channels = padded.shape
    height, width = padded_height - 2 * crop, padded_width - 2 * crop
    rows = offsets[:, :1] + torch.arange(height, device=padded.device)
    columns = offsets[:, 1:] + torch.arange(width, device=padded.device)
    columns = torch.where(flips[:, None], padded_width - 1 - columns, columns)
    # One flat gather of whole pixels: on a CPU twice as fast as padded[picks, rows, columns].
    rows = picks[:, None] * padded_height + rows
    pixels = rows[:, :, None] * padded_width + columns[:, None, :]
    gathered = padded.view(-1, channels).index_select(0, pixels.flatten())
    return gathered.view(len(picks), height, width, channels)
