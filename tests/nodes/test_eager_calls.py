"""Styled calls of a compiled model from several threads, as when cfg is split over two cards."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event, get_ident

import torch
import torch._dynamo.eval_frame as eval_frame
from stock_nodes import encode, sample


@contextmanager
def held(context, entered, leave):
    with context:
        entered.set()
        assert leave.wait(30)
        yield


def test_compiling_comes_back_after_the_last_of_two_overlapping_calls(acfun):
    from acfun_pack.nodes.comfyui.torch_compile import eager_call

    unet, threads = torch.nn.Identity(), set()
    entered, leave = [Event(), Event()], [Event(), Event()]

    def call(number):
        threads.add(get_ident())
        with held(eager_call(unet, {}, print), entered[number], leave[number]):
            pass
        return eval_frame._stance.stance

    before = eval_frame._stance.stance
    with ThreadPoolExecutor(2) as pool:
        calls = []
        for number in range(2):  # The second comes while the first is inside.
            calls.append(pool.submit(call, number))
            assert entered[number].wait(30)
        leave[0].set()
        assert calls[0].result(30) == "force_eager"
        leave[1].set()
        assert calls[1].result(30) == before == eval_frame._stance.stance
    assert len(threads) == 2


def test_compiling_comes_back_after_an_error(acfun, comfy):
    from acfun_pack.nodes.comfyui.torch_compile import eager_call

    before = eval_frame._stance.stance
    try:
        with eager_call(torch.nn.Identity(), {}, print):
            assert eval_frame._stance.stance == "force_eager"
            raise KeyError
    except KeyError:
        pass
    assert eval_frame._stance.stance == before
    model, clip, _ = comfy.checkpoint("sd1")
    sample(acfun.adapt(model, acfun.style()), encode(clip, "a"), encode(clip, "b"), steps=1)
    assert eval_frame._stance.stance == before
