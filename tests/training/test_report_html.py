from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.training.reports import HASH, full_report, hostile_report, minimal_report
from training.report_html import page, write_html


class Reader(HTMLParser):
    """Holds a page to closing every element, and keeps what it is made of."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert reader.open == []
    return reader


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("report")
    path = write_html(folder, hostile_report())  # drawn by a process of its own
    assert [one.name for one in folder.iterdir()] == ["report.html"]
    return path.read_text(encoding="utf-8")


def test_write_html_hostile_report_is_one_file_that_asks_for_nothing(hostile: str) -> None:
    reader = read(hostile)
    assert reader.tags.count("svg") == 7
    assert not {"script", "link", "iframe", "object", "embed", "img", "image", "a", "base"} & set(reader.tags)
    names = {name for name, _ in reader.attributes}
    assert not {name for name in names if name in {"src", "href", "xlink:href", "srcset"} or name.startswith("on")}
    assert {value for name, value in reader.attributes if "://" in value and not name.startswith("xmlns")} == set()
    assert not re.search(r"url\(|@import", hostile)
    assert "default-src 'none'" in hostile


def test_write_html_hostile_names_are_shown_as_text(hostile: str) -> None:
    assert "<script" not in hostile
    assert "alert(1)" in "".join(read(hostile).words)
    assert "&lt;script&gt;alert(1)" in hostile


def test_page_full_report_has_every_chapter_and_the_honest_verdict() -> None:
    reader = read(page(full_report(), {}))
    text = "".join(reader.words)
    for chapter in ("Key figures", "By symbol", "By hour (UTC)", "By volatility", "Data", "Training", "Limits"):
        assert chapter in reader.words
    assert "Leakage sentinel" in reader.words
    assert "Proven: none" in text
    assert "no gate has judged this bundle" in text
    assert "0.951 [0.945, 0.957]" in text
    assert "beats HAR: the whole interval says so" in text
    assert "not told apart from a coin" in text
    assert "2025-05-05" in text
    assert HASH in text
    assert "Believe no figure" not in text


def test_page_with_doubts_warns_above_the_figures() -> None:
    report = full_report() | {"alarms": ["accuracy of 93 %"], "outside": ["symbol X is new"]}
    text = page(report, {})
    assert text.index("Believe no figure") < text.index("accuracy of 93 %") < text.index("Key figures")
    assert text.index("symbol X is new") < text.index("Key figures")


def test_page_without_its_pictures_says_so() -> None:
    assert "could not be drawn" in page(full_report(), {})
    assert "could not be drawn" not in page(minimal_report(), {})
    assert "could not be drawn" not in page(full_report(), {"loss": "<svg></svg>"})


def test_page_minimal_report_leaves_out_what_is_missing() -> None:
    reader = read(page(minimal_report(), {}))
    assert reader.tags.count("h2") == 1
    assert "table" not in reader.tags
    assert {"Limits", HASH} <= set(reader.words)


def test_page_of_an_evaluation_says_what_may_have_trained_it() -> None:
    cell = {"sample": "in-sample", **full_report()["by_volatility"][0]}
    text = page(full_report() | {"by_sample": [cell]}, {})
    assert "may have trained it" in text
    assert "in-sample" in text


def test_page_with_more_facts_than_fit_says_where_the_rest_is() -> None:
    text = page(minimal_report() | {"data": {f"k{i}": list(range(99)) for i in range(1_000)}}, {})
    assert "the rest is in report.json" in text
    assert "and 59 more" in text
    assert len(text) < 200_000


def test_write_html_where_the_folder_is_missing_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_html(tmp_path / "none", minimal_report())
    assert list(tmp_path.iterdir()) == []
