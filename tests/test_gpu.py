"""The same fit on a GPU: equal estimates, with every tensor on the device."""

import pytest
import torch

import deepreg

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.mark.parametrize("name", ["tutorial_confounded", "logit_continuous", "tutoring"])
def test_cpu_and_gpu_agree(name):
    sim = deepreg.simulate.get(name)(n=1000, rng=1)
    model = deepreg.structural(sim.formula, sim.frame, family=sim.family)
    options = {"folds": 3, "members": 2, "rng": 0, "progress": False}
    cpu, gpu = model.fit(**options, device="cpu"), model.fit(**options, device="cuda")
    assert gpu.scores.theta.is_cuda
    target = "ame" if name == "logit_continuous" else "ate"
    one, two = cpu.estimate(target), gpu.estimate(target)
    assert two.value[0] == pytest.approx(one.value[0], abs=0.2 * one.std_error[0])
    assert two.std_error[0] == pytest.approx(one.std_error[0], rel=0.05)
    assert (gpu.theta(sim.frame.head()) - cpu.theta(sim.frame.head())).abs().max().max() < 0.5
    assert str(gpu.summary())
