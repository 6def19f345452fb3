"""The tasks' images, their classes and their splits."""

import numpy as np
import pytest
import torch

from firmware_tools.prompts import tasks
from firmware_tools.quantize import digits

TARGETS = {task.name: task for task in tasks.targets()}


@pytest.mark.parametrize("name", TARGETS)
def test_a_task_has_images_of_every_class(name: str) -> None:
    task = TARGETS[name]
    for part, n in ((task.data.training, tasks.N_TRAINING), (task.data.test, tasks.N_TEST)):
        assert part.images.shape == (n, 1, 8, 8)
        assert part.images.dtype == torch.float32
        assert 0 <= float(part.images.min()) < float(part.images.max()) <= 1
        assert part.labels.unique().tolist() == list(range(task.classes))


def test_digits_are_changed_as_the_names_say() -> None:
    plain = digits.load().test
    images = {name: TARGETS[name].data.test.images for name in TARGETS}
    assert torch.equal(images["negative"], 1 - plain.images)
    assert torch.equal(images["rotated"][:, 0, 0, 0], plain.images[:, 0, 0, 7])
    assert torch.equal(images["parity"], plain.images)
    assert torch.equal(TARGETS["parity"].data.test.labels, plain.labels % 2)


def test_patches_are_moved_whole_and_alike() -> None:
    plain, moved = digits.load().test.images, TARGETS["shuffled"].data.test.images

    def patches(images: torch.Tensor) -> torch.Tensor:
        return images.unfold(2, 2, 2).unfold(3, 2, 2).reshape(len(images), 16, 4)

    one, other = patches(plain), patches(moved)
    places = [int((one == other[:, [k]]).all(2).all(0).nonzero()[0, 0]) for k in range(16)]
    assert sorted(places) == list(range(16)) != places


def test_a_turned_crop_is_of_its_class() -> None:
    plain, turned = (TARGETS[name].data.test for name in ("photograph", "orientation"))
    for k in range(20):
        image = np.rot90(plain.images[k, 0].numpy(), int(turned.labels[k]))
        assert np.array_equal(image, turned.images[k, 0].numpy())


def test_images_are_the_same_every_time() -> None:
    for task in tasks.targets():
        assert torch.equal(task.data.training.images, TARGETS[task.name].data.training.images)
