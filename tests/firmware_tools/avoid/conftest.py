"""Needs the extra `vision`."""

import pytest

pytest.importorskip("cv2", reason="needs the extra `vision`")
pytest.importorskip("gymnasium", reason="needs the extra `vision`")
