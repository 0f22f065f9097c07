"""Short stacking: weights on the simplex, for each column of the outputs, that minimise the held-out loss."""

from collections.abc import Callable

import torch
from torch import Tensor


def stack(candidates: Tensor, loss: Callable[[Tensor], Tensor], steps: int = 100) -> Tensor:
    """Weights (C, P), each column summing to 1, of held-out outputs (C, R, n, P) under a mean loss (R, n, P) -> ().

    Ahrens, Hansen, Schaffer and Wiemann (2025). The weights are a softmax, found by L-BFGS from equal ones.
    """
    logits = torch.zeros(
        len(candidates), candidates.shape[-1], dtype=torch.float64, device=candidates.device, requires_grad=True
    )
    optimiser = torch.optim.LBFGS([logits], max_iter=steps, line_search_fn="strong_wolfe", tolerance_change=1e-10)

    def closure() -> Tensor:
        optimiser.zero_grad()
        value = loss((logits.softmax(0)[:, None, None, :] * candidates).sum(0))
        value.backward()
        return value

    with torch.enable_grad():
        optimiser.step(closure)
    return logits.detach().softmax(0)
