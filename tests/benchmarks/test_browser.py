"""The figures of `python -m benchmarks.browser`, without a browser."""

from unittest.mock import MagicMock

from benchmarks import browser


def test_the_rows_of_a_page_by_hand(monkeypatch):
    """The page answers first after 1.5 s. Its median frame takes 50 ms, 20 of them the network."""
    seconds = [[0.02, 0.05], [0.01, 0.9], [0.03, 0.04]]
    answers = {browser._FIRST_ANSWER: 1500, browser._OPEN: "1 thread", browser._MEASURE: seconds}
    opened = MagicMock()
    opened.new_page.return_value.evaluate.side_effect = lambda code, *words: answers[code]
    monkeypatch.setattr(browser, "INPUT_SIZES", (128, 208))
    assert browser.measure_page(opened, "http://127.0.0.1") == [
        ["1 thread", size, "20 ms", "50 ms", "20.0", "1.5 s"] for size in ("128", "208")
    ]
