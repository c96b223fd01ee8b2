from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from models.errors import CandlewickError
from models.whole_file import told, whole
from tests.models.test_parquet_writing import at_most


def test_whole_file_has_its_name_only_once_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with whole(path) as file:
        file.write(b"one")
        assert not path.exists()
    assert path.read_bytes() == b"one"
    assert list(tmp_path.iterdir()) == [path]


def test_whole_file_that_fails_on_the_way_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with pytest.raises(TypeError), whole(path) as file:
        file.writelines([b"new", "text"])  # type: ignore[list-item]
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_whole_file_of_a_pipe_is_written_as_it_comes(tmp_path: Path) -> None:
    pipe, found = tmp_path / "pipe", list[bytes]()
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: found.append(pipe.read_bytes()))
    reader.start()
    with whole(pipe) as file:
        file.write(b"one")
    reader.join(60)
    assert found == [b"one"]
    assert list(tmp_path.iterdir()) == [pipe]


@pytest.mark.parametrize("name", ["none/a", "file/a", "folder"])
def test_told_of_a_place_that_is_none_names_another_place_never_space(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    says = pytest.raises(CandlewickError, match=r"cannot be written .*; name another place")
    with says, told(tmp_path / name), whole(tmp_path / name):
        pass


def test_told_of_a_full_disk_asks_for_space(tmp_path: Path) -> None:
    path = tmp_path / "a"
    says = pytest.raises(CandlewickError, match=r"cannot be written \(File too large\); free some space")
    with at_most(2_000), says, told(path), whole(path) as file:
        file.write(bytes(10_000))
    assert list(tmp_path.iterdir()) == []
