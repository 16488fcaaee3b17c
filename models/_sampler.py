"""Pictures out of noise: the samplers of denoising diffusion, in NumPy, for any engine that runs the net."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgekit.errors import InputError
from edgekit.family import Run

__all__ = ["TIMES", "add_noise", "kept", "sample", "sampling_times"]

TIMES = 1000
"""Steps from a picture to noise; the net is told the step, 0 to 999."""

_FIRST_BETA, _LAST_BETA = 1e-4, 0.02


def kept() -> np.ndarray:
    """Share of the picture's variance that is left at each of `TIMES` (the paper's alpha-bar), float64 [TIMES]."""
    return np.cumprod(1.0 - np.linspace(_FIRST_BETA, _LAST_BETA, TIMES))


def add_noise(pictures: np.ndarray, noise: np.ndarray, times: np.ndarray) -> np.ndarray:
    """`pictures` as they are at `times`, an integer for each (Ho et al. 2020, arXiv:2006.11239, equation 4)."""
    share = kept()[times].reshape(-1, *[1] * (pictures.ndim - 1))
    return (np.sqrt(share) * pictures + np.sqrt(1.0 - share) * noise).astype(np.float32)


def sampling_times(steps: int) -> np.ndarray:
    """`steps` of the times, evenly spread, from the last to the first. Raises InputError for too few or too many."""
    if not 1 <= steps <= TIMES:
        raise InputError(f"a sampler takes 1 to {TIMES} steps, not {steps}", hint="25 to 100 are usual")
    return np.rint(np.linspace(TIMES - 1, 0, steps)).astype(np.int64)


def sample(
    run: Run,
    count: int,
    steps: int = 50,
    seed: int = 0,
    *,
    shape: Sequence[int] = (1, 8, 8),
    eta: float = 0.0,
    batch: int = 64,
) -> np.ndarray:
    """float32 [count, *shape] in -1..1, drawn by the net that `run` runs; the same seed gives the same pictures.

    Each step guesses the picture from the noise the net sees in it, and puts the noise of the next time on the guess:
    the same noise (DDIM: Song et al. 2020, arXiv:2010.02502, equation 12), or in part fresh noise. All of it fresh and
    all 1000 steps are the ancestral sampling of Ho et al. 2020 (DDPM).

    Args:
        run: Any engine: from feeds by input name to outputs by name.
        count: Pictures.
        steps: Calls of the net for each.
        seed: Of the noise. A picture depends on it, and on its place in its batch.
        shape: Of a picture, as the net takes it.
        eta: 0 for DDIM's, 1 for the ancestral sampler's share of fresh noise.
        batch: Pictures in a call, for engines that take just so many; what is too much is thrown away.

    Raises:
        InputError: The steps, or `eta`, are out of range.
    """
    if not 0.0 <= eta <= 1.0:
        raise InputError(f"eta is a share of 0 to 1, not {eta}", hint="0 for DDIM, 1 for DDPM")
    times = sampling_times(steps)
    generator = np.random.default_rng(seed)
    parts = [_draw(run, (batch, *shape), times, eta, generator) for _ in range(-(-count // batch))]
    return np.concatenate(parts)[:count] if parts else np.zeros((0, *shape), np.float32)


def _draw(
    run: Run, shape: tuple[int, ...], times: np.ndarray, eta: float, generator: np.random.Generator
) -> np.ndarray:
    shares = kept()[times]
    x = generator.standard_normal(shape).astype(np.float32)
    for index, (time, now) in enumerate(zip(times, shares, strict=True)):
        after = shares[index + 1] if index + 1 < len(times) else 1.0
        noise = run({"noisy": x, "time": np.full((shape[0], 1), time, np.float32)})["noise"]
        # Pictures lie in -1..1, so the guess must; the noise is what is left to explain what was seen.
        guess = np.clip((x - np.sqrt(1.0 - now) * noise) / np.sqrt(now), -1.0, 1.0)
        noise = (x - np.sqrt(now) * guess) / np.sqrt(1.0 - now)
        fresh = eta * np.sqrt((1.0 - after) / (1.0 - now) * (1.0 - now / after))
        x = np.sqrt(after) * guess + np.sqrt(1.0 - after - fresh**2) * noise
        if fresh > 0.0:
            x = x + fresh * generator.standard_normal(shape)
        x = x.astype(np.float32)
    return x
